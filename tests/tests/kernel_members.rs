//! XDP and TC programs of every signature that the kernel takes, and what needs the BTF of an object: in a VM.
#![allow(clippy::unwrap_used)]

use bpfman_tests::objects::Object;
use bpfman_tests::vm::{HELPERS, Vm, VmOutcome};

const SIGNATURES: &str = include_str!("members/signatures.bpf.c");
const DECLARED: &str = include_str!("members/declared.bpf.c");
const NO_BTF: &str = include_str!("members/no_btf.bpf.c");
const DATA: &str = include_str!("members/data.bpf.c");
const RINGS: &str = include_str!("members/rings.bpf.c");

/// `kind ID`: the kernel's type of a program. `number ID NAME`: a global variable of a program, found by the BTF of its map.
const READ: &str = r#"
kind() { bpftool prog show id "$1" | sed -n 's/^[0-9]*: \([a-z_]*\) .*/\1/p'; }
number() {
    for map in $(bpftool prog show id "$1" | sed -n 's/.*map_ids \([0-9,]*\).*/\1/p' | tr , ' '); do
        bpftool map dump id "$map"
    done | sed -n "s/.*\"$2\": *\([0-9]*\).*/\1/p" | head -n 1
}
"#;

fn run(objects: &[(&Object, &str)], script: &str) -> Option<VmOutcome> {
    let mut vm = Vm::new()?
        .tool("bpftool")?
        .tool("ip")?
        .option("--limit", "400");
    for (object, name) in objects {
        vm = vm.file(object.path(), &format!("/root/{name}"));
    }
    Some(vm.run(&format!("{HELPERS}{READ}{script}")))
}

/// The functions of a source that are in sections of those names, as `TYPE:NAME`.
fn programs(source: &str, sections: &[(&str, &str)]) -> Vec<String> {
    let mut found = Vec::new();
    for line in source.lines() {
        for (section, word) in sections {
            let head = format!("SEC(\"{section}\") ");
            if let Some(rest) = line.strip_prefix(&head) {
                let (before, _) = rest.split_once('(').unwrap();
                let name = before.rsplit([' ', '*']).next().unwrap();
                found.push(format!("{word}:{name}"));
            }
        }
    }
    found
}

const BOTH: [(&str, &str); 4] = [
    ("xdp", "xdp"),
    ("xdp.frags", "xdp"),
    ("tc", "tc"),
    ("classifier", "tc"),
];

#[test]
fn programs_of_any_signature_are_members_of_chains() {
    let (Some(signatures), Some(declared), Some(no_btf)) = (
        Object::compile(SIGNATURES),
        Object::compile_whole(DECLARED, &[]),
        Object::compile_whole(NO_BTF, &["-g0"]),
    ) else {
        return;
    };
    let mut all = Vec::new();
    for (file, source) in [
        ("signatures.o", SIGNATURES),
        ("declared.o", DECLARED),
        ("no_btf.o", NO_BTF),
    ] {
        let programs = programs(source, &BOTH);
        assert!(programs.len() >= 3, "{file}: {programs:?}");
        all.extend(programs.iter().map(|program| format!("{file}={program}")));
    }
    let script = format!(
        r#"
wire
for program in {}; do
    object=${{program%%=*}} program=${{program#*=}}
    id=$(load "$object" "$program" 2>/tmp/warned)
    echo "MEMBER $program $(kind "$id") $(tr '\n' ' ' </tmp/warned)"
    case $program in
    xdp:*) attach "$id" xdp -i veth0 -p 50 >/dev/null ;;
    tc:*) attach "$id" tc -d ingress -i veth0 -p 50 >/dev/null ;;
    esac
    ping_from_peer -c 1 >/dev/null
    case $object in signatures.o) echo "RUNS $program $([ "$(number "$id" runs)" -gt 0 ] && echo yes)" ;; esac
    bpfman unload "$id"
done

# Together, in one chain: each lets the next one run.
chain=
for name in no_argument void_pointer action long_result reads_packet frags; do
    id=$(load signatures.o "xdp:$name")
    attach "$id" xdp -i veth0 -p 50 >/dev/null
    chain="$chain $id"
done
bare=$(load no_btf.o xdp:xdp_calls)
attach "$bare" xdp -i veth0 -p 1 >/dev/null
ping_from_peer -c 3 >/dev/null
for id in $chain; do [ "$(number "$id" runs)" -ge 3 ] && echo "CHAIN=yes"; done
for id in $chain $bare; do bpfman unload "$id"; done
left_behind | sed 's/^/LEFT /'
"#,
        all.join(" ")
    );
    let objects = [
        (&signatures, "signatures.o"),
        (&declared, "declared.o"),
        (&no_btf, "no_btf.o"),
    ];
    let Some(outcome) = run(&objects, &script) else {
        return;
    };
    let output = outcome.ok();
    for program in all {
        let (object, program) = program.split_once('=').unwrap();
        let member = format!("MEMBER {program} ext ");
        assert!(
            output.lines().any(|line| line == member),
            "{member}: {output}"
        );
        if object == "signatures.o" {
            let runs = format!("RUNS {program} yes");
            assert!(output.lines().any(|line| line == runs), "{runs}: {output}");
        }
    }
    let chain = output.lines().filter(|line| *line == "CHAIN=yes");
    assert_eq!(chain.count(), 6, "{output}");
    assert!(!output.contains("\nLEFT "), "{output}");
}

#[test]
fn global_variables_have_the_types_that_the_verifier_asks_for() {
    let Some(data) = Object::compile(DATA) else {
        return;
    };
    let script = r#"
wire
echo "RELEASE=$(uname -r)"
for name in locks starts_timer exchanges_pointer pops_list; do
    if id=$(load data.o "tc:$name" 2>/tmp/err); then
        attach "$id" tc -d ingress -i veth0 -p 50 >/dev/null
        ping_from_peer -c 3 >/dev/null
        echo "LOADED=$name"
        if [ "$name" = locks ]; then
            echo "GUARDED=$([ "$(number "$id" guarded_count)" -ge 3 ] && echo yes)"
            echo "STATIC=$(($(number "$id" static_count) % 7))"
            echo "INITIAL=$([ "$(number "$id" initial)" -ge 8 ] && echo yes)"
        fi
        bpfman unload "$id"
    else
        echo "REFUSED_$name=$(tr '\n' ' ' </tmp/err)$(tr '\n' ' ' </tmp/load)"
    fi
done
for name in throws throws_too; do
    if id=$(load data.o "xdp:$name" 2>/tmp/err); then
        attach "$id" xdp -i veth0 -p 50 >/dev/null
        ping_from_peer -c 1 >/dev/null
        echo "THROWN_$name=$(kind "$id") $([ "$(number "$id" thrown)" -gt 0 ] && echo yes) $(value "$id" cookies)"
        bpfman unload "$id"
    else
        echo "REFUSED_$name=$(tr '\n' ' ' </tmp/err)$(tr '\n' ' ' </tmp/load)"
    fi
done
left_behind | sed 's/^/LEFT /'
"#;
    let Some(outcome) = run(&[(&data, "data.o")], script) else {
        return;
    };
    let output = outcome.ok();
    let loaded = |name: &str| output.lines().any(|line| line == format!("LOADED={name}"));
    // It never fires: C has no name for the section's map, which `bpf_timer_init` asks for.
    assert!(loaded("starts_timer"), "{output}");
    // 6.1 has neither `kptr` without RCU, nor lists, nor exceptions.
    if outcome.value("RELEASE").starts_with("6.1.") {
        let refused = outcome.value("REFUSED_throws");
        assert!(refused.contains("bpf_throw"), "{refused}");
        // Its verifier takes each address of a global variable for another lock, whoever loads the program.
        let refused = outcome.value("REFUSED_locks");
        assert!(refused.contains("different lock"), "{refused}");
    } else {
        assert!(loaded("locks"), "{output}");
        for (name, value) in [("GUARDED", "yes"), ("STATIC", "0"), ("INITIAL", "yes")] {
            assert_eq!(outcome.value(name), value, "{name}: {output}");
        }
        assert!(loaded("exchanges_pointer"), "{output}");
        assert!(loaded("pops_list"), "{output}");
        assert_eq!(outcome.value("THROWN_throws"), "ext yes 77");
        assert_eq!(outcome.value("THROWN_throws_too"), "ext yes 78");
    }
    assert!(!output.contains("\nLEFT "), "{output}");
}

#[test]
fn inner_maps_are_fitted_to_the_machine_and_named_when_refused() {
    let Some(rings) = Object::compile(RINGS) else {
        return;
    };
    let script = r#"
id=$(load rings.o tracepoint:sends)
attach "$id" tracepoint -t syscalls/sys_enter_kill >/dev/null
kill -0 $$
bpfman unload "$id"
echo "REFUSED=$(refused bpfman load file -p rings.o --programs tracepoint:uses_refused)"
left_behind | sed 's/^/LEFT /'
"#;
    let Some(outcome) = run(&[(&rings, "rings.o")], script) else {
        return;
    };
    let output = outcome.ok();
    let refused = outcome.value("REFUSED");
    assert!(
        refused.contains("making the inner map of map `refused` (of type hash)"),
        "{refused}"
    );
    assert!(!output.contains("\nLEFT "), "{output}");
}
