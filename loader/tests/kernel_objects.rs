//! `LinuxKernel` and objects that leave something to it: externs, entries of maps, arenas, siblings of all sorts.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod objects;
mod real;

use std::io::Read as _;
use std::path::PathBuf;

use bpfman_tests::lanes;
use bytecode_object::ProgramType;
use loader::kernel::Kernel as _;
use loader::kernel::KernelError;
use loader::kernel::linux::LinuxKernel;

use objects::object;
use real::{Bpffs, Globals, load, number, number_in, program, run};

/// The kernel's configuration: there is one where these tests run.
fn config() -> String {
    let mut text = String::new();
    let uname = rustix::system::uname();
    let boot = PathBuf::from(format!(
        "/boot/config-{}",
        uname.release().to_str().unwrap()
    ));
    if boot.exists() {
        return std::fs::read_to_string(boot).unwrap();
    }
    let file = std::fs::File::open("/proc/config.gz").unwrap();
    flate2::read::GzDecoder::new(file)
        .read_to_string(&mut text)
        .unwrap();
    text
}

fn option(config: &str, name: &str) -> String {
    let mut lines = config.lines();
    let line = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    line.unwrap_or_else(|| panic!("{name}")).to_owned()
}

#[test]
fn externs_are_what_the_kernel_says() {
    let Some(object) = object("externs") else {
        return;
    };
    if !lanes::root() {
        return;
    }
    let kernel = LinuxKernel::new();
    let bpffs = Bpffs::mount(&kernel);
    let seen = |function| {
        let loaded = load(
            &kernel,
            &object,
            vec![program(function, ProgramType::Xdp)],
            &Globals::new(),
        );
        let loaded = loaded.unwrap_or_else(|error| panic!("{function}: {error:?}"));
        let pin = bpffs.path().join(function);
        kernel.pin(&loaded.programs[0].handle, &pin).unwrap();
        let returned = run(&pin);
        (returned, number::<[u64; 8]>(&loaded, ".bss"), loaded)
    };
    assert_eq!(seen("plain").0, 2);

    let config = config();
    let (_, values, loaded) = seen("with_kconfig");
    let names: Vec<&str> = loaded.maps.iter().map(|map| map.name.as_str()).collect();
    assert!(names.contains(&".kconfig"), "{names:?}");
    let release = rustix::system::uname()
        .release()
        .to_str()
        .unwrap()
        .to_owned();
    let mut parts = release.split(|c: char| !c.is_ascii_digit());
    let mut part = || parts.next().unwrap().parse::<u64>().unwrap();
    assert_eq!(
        values[0],
        (part() << 16) + (part() << 8) + part().min(255),
        "{release}"
    );
    assert_eq!(values[1].to_string(), option(&config, "CONFIG_HZ"));
    assert_eq!(&values[2..5], [1, 1, 0]);
    let hostname = option(&config, "CONFIG_DEFAULT_HOSTNAME");
    assert_eq!(values[5], u64::from(hostname.as_bytes()[2]), "{hostname}");
    assert_eq!(values[6], 1);
    assert_eq!(seen("with_kconfig_below").1[0], values[0]);

    // Addresses of data, where the kernel was built to know them (CONFIG_KALLSYMS_ALL).
    let symbols = std::fs::read_to_string("/proc/kallsyms").unwrap();
    let address = |name: &str| {
        symbols.lines().find_map(|line| {
            let mut words = line.split_ascii_whitespace();
            let (address, found) = (words.next()?, words.nth(1)?);
            (found == name).then(|| u64::from_str_radix(address, 16).unwrap())
        })
    };
    let (_, values, _) = seen("with_weak_ksym");
    assert_eq!(values[..2], [address("init_task").unwrap_or_default(), 0]);
    if address("runqueues").is_some() {
        assert_eq!(seen("with_typed_ksym").1[0], 1);
    } else {
        let programs = vec![program("with_typed_ksym", ProgramType::Xdp)];
        match load(&kernel, &object, programs, &Globals::new()) {
            Err(KernelError::Rejected { log, .. }) => {
                assert!(
                    log.contains("address for kernel symbol 'runqueues'"),
                    "{log}"
                );
            }
            result => panic!("{result:?}"),
        }
    }
    assert_eq!(seen("with_weak_kfunc").1[0], 77);
    assert_eq!(seen("with_kfunc").0, 2);
}

#[test]
fn an_extern_that_the_kernel_does_not_have_stops_its_program_with_the_reason() {
    let Some(object) = object("externs") else {
        return;
    };
    if !lanes::root() {
        return;
    }
    let kernel = LinuxKernel::new();
    let cases = [
        (
            "with_unset_kconfig",
            "CONFIG_NO_OTHER_OPTION",
            "does not set it",
        ),
        (
            "with_unknown_kconfig",
            "NO_OPTION_AT_ALL",
            "neither CONFIG_… nor",
        ),
        (
            "with_unfit_kconfig",
            "CONFIG_NR_CPUS",
            "does not fit a bool",
        ),
        (
            "with_missing_ksym",
            "no_such_symbol",
            "no symbol of that name",
        ),
        (
            "with_missing_variable",
            "no_such_variable",
            "no variable of that name",
        ),
        ("with_missing_kfunc", "bpf_no_such_kfunc", "(kfunc)"),
    ];
    for (function, symbol, reason) in cases {
        let programs = vec![program(function, ProgramType::Xdp)];
        let error = load(&kernel, &object, programs, &Globals::new()).unwrap_err();
        let KernelError::Extern { source, .. } = &error else {
            panic!("{function}: {error:?}");
        };
        assert_eq!(
            error.to_string(),
            format!("`{function}` uses `{symbol}`, an extern of the kernel")
        );
        assert!(source.to_string().contains(reason), "{source}");
    }
}

#[test]
fn entries_of_maps_are_there_before_the_first_packet() {
    let Some(object) = object("filled") else {
        return;
    };
    if !lanes::root() {
        return;
    }
    let kernel = LinuxKernel::new();
    let bpffs = Bpffs::mount(&kernel);
    let load = |function| {
        let programs = vec![program(function, ProgramType::Xdp)];
        load(&kernel, &object, programs, &Globals::new())
    };
    let runs = |function: &'static str| {
        let loaded = load(function).unwrap();
        let pin = bpffs.path().join(function);
        kernel.pin(&loaded.programs[0].handle, &pin).unwrap();
        let returned = run(&pin);
        (returned, loaded)
    };
    // From one to the next by tail calls; the last one passes.
    let (returned, loaded) = runs("jump");
    assert_eq!(returned, 2);
    assert_eq!(number::<[u64; 4]>(&loaded, ".bss"), [1, 1, 1, 0]);
    assert_eq!(
        loaded.programs.len(),
        1,
        "what is jumped to is nobody's but the array's"
    );
    assert_eq!(runs("jump_nowhere").0, 1);

    let (returned, loaded) = runs("count_inside");
    assert_eq!(returned, 2);
    let inside = |name| {
        let mut maps = loaded.maps.iter();
        number_in::<u64>(maps.find(|map| map.name == name).unwrap().id)
    };
    assert_eq!((inside("first_inner"), inside("second_inner")), (0, 1));

    let error = load("jump_to_another_type").unwrap_err();
    let expected = "`jump_to_another_type` jumps to `of_another_type` by an entry of a program array, but \
        `of_another_type` is in section `tc` and cannot be loaded as xdp";
    assert_eq!(error.to_string(), expected);
}

#[test]
fn siblings_never_matter() {
    let Some(object) = object("siblings") else {
        return;
    };
    if !lanes::root() {
        return;
    }
    let kernel = LinuxKernel::new();
    let bpffs = Bpffs::mount(&kernel);
    let xdp = |function, globals: &Globals| {
        load(
            &kernel,
            &object,
            vec![program(function, ProgramType::Xdp)],
            globals,
        )
    };
    let globals = Globals::from([
        ("step".to_owned(), 5_u32.to_ne_bytes().to_vec()),
        ("counted".to_owned(), 100_u64.to_ne_bytes().to_vec()),
    ]);
    let loaded = xdp("count", &globals).unwrap();
    let pin = bpffs.path().join("count");
    kernel.pin(&loaded.programs[0].handle, &pin).unwrap();
    (0..3).for_each(|_| assert_eq!(run(&pin), 2));
    assert_eq!(number::<u64>(&loaded, ".data.counts"), 115);
    assert_eq!(number::<u32>(&loaded, ".rodata.settings"), 5);
    assert_eq!(number::<u64>(&loaded, ".bss"), 3);
    let names: Vec<&str> = loaded.maps.iter().map(|map| map.name.as_str()).collect();
    assert!(
        !names.iter().any(|name| name.contains("future")),
        "{names:?}"
    );

    let error = xdp("from_arena", &Globals::new()).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("`in_arena`, a variable in an arena"),
        "{error}"
    );
    let error = xdp("from_future", &Globals::new()).unwrap_err();
    match &error {
        KernelError::MapRefused { map, map_type, .. } => {
            assert_eq!(
                (map.as_str(), &**map_type),
                ("from_the_future_used", "type_1000")
            );
        }
        error => panic!("{error:?}"),
    }
}

#[test]
fn arenas_are_made_where_the_kernel_has_them() {
    let Some(object) = object("siblings") else {
        return;
    };
    if !lanes::root() {
        return;
    }
    let kernel = LinuxKernel::new();
    let uname = rustix::system::uname();
    let release = uname.release().to_str().unwrap();
    let mut numbers = release
        .split('.')
        .map(|part| part.parse::<u32>().unwrap_or_default());
    let has_arenas = (numbers.next(), numbers.next()) >= (Some(6), Some(9));
    for function in ["allocate", "allocate_anywhere"] {
        let programs = vec![program(function, ProgramType::Uprobe)];
        match load(&kernel, &object, programs, &Globals::new()) {
            Ok(loaded) => {
                assert!(has_arenas, "{function}");
                let names: Vec<&str> = loaded.maps.iter().map(|map| map.name.as_str()).collect();
                assert!(names.contains(&"arena_anywhere"), "{names:?}");
            }
            Err(KernelError::Extern { symbol, .. }) if !has_arenas => {
                assert_eq!(symbol, "bpf_arena_alloc_pages");
            }
            Err(error) => panic!("{function}: {error:?}"),
        }
    }
}
