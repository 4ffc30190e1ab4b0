# Compiles an example for every architecture, under the file names of bpf2go: bpf_<arch>_<bpfel|bpfeb>.o.
# Included by the Makefile of an example, which sets SOURCE.

CLANG ?= clang
STRIP ?= llvm-strip
# <asm/types.h> lies in the folder of the machine that compiles; what the examples use of it is the same everywhere.
MULTIARCH := $(shell $(CLANG) -print-target-triple 2>/dev/null | sed 's/-pc-\|-unknown-/-/')
# BTF names the source of every line: without its folder, so that every checkout gives the same bytes.
BPF_CFLAGS := -O2 -g -Wall -Wextra -Wno-unused-parameter -Werror -mcpu=v3 -idirafter /usr/include/$(MULTIARCH) \
	"-ffile-prefix-map=$$PWD=."

OBJECTS := bpf_x86_bpfel.o bpf_arm64_bpfel.o bpf_powerpc_bpfel.o bpf_s390_bpfeb.o

.PHONY: all clean
all: $(OBJECTS)

# bpf_x86_bpfel.o: target x86 (for PT_REGS and the like), byte order bpfel. BTF stays, DWARF goes.
bpf_%.o: $(SOURCE) ../bpf.mk
	$(CLANG) $(BPF_CFLAGS) -target $(word 2,$(subst _, ,$*)) -D__TARGET_ARCH_$(word 1,$(subst _, ,$*)) -c $< -o $@
	$(STRIP) --strip-debug $@

clean:
	rm -f $(OBJECTS)
