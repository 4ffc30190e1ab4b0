use object::write::{Object, StandardSegment, Symbol, SymbolSection};
use object::{
    Architecture, BinaryFormat, Endianness, SectionKind, SymbolFlags, SymbolKind, SymbolScope,
};

/// A small eBPF object: each program is `r0 = 2; exit` in a section of its own.
pub(crate) fn object_file(order: Endianness, programs: &[(&str, &str)]) -> Vec<u8> {
    let mut object = Object::new(BinaryFormat::Elf, Architecture::Bpf, order);
    for (section, function) in programs {
        let segment = object.segment_name(StandardSegment::Text).to_vec();
        let section = object.add_section(segment, section.as_bytes().to_vec(), SectionKind::Text);
        let code = [0xb7, 0, 0, 0, 2, 0, 0, 0, 0x95, 0, 0, 0, 0, 0, 0, 0];
        let offset = object.append_section_data(section, &code, 8);
        object.add_symbol(Symbol {
            name: function.as_bytes().to_vec(),
            value: offset,
            size: code.len() as u64,
            kind: SymbolKind::Text,
            scope: SymbolScope::Dynamic,
            weak: false,
            section: SymbolSection::Section(section),
            flags: SymbolFlags::None,
        });
    }
    object.write().unwrap()
}
