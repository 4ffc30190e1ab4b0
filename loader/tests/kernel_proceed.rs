//! What the dispatchers do with every return code: chains of three on a real kernel, run by `BPF_PROG_TEST_RUN`, against
//! a model. The test runs itself again in a VM.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout
)]

mod guest;
mod objects;

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use aya::maps::{Array, Map, MapData};

use aya::programs::{SchedClassifier, TestRun, TestRunOptions, Xdp};
use aya_obj::programs::XdpAttachType;
use bytecode_object::ProgramType;
use loader::kernel::linux::LinuxKernel;
use loader::kernel::{
    DispatcherConfig, Kernel, LinkSpec, LoadAs, LoadSpec, Loaded, ProgramSpec, TcDispatcherConfig,
    XdpDispatcherConfig,
};
use loader::object::Results;

/// What a hook's programs may return, and what its masks and chains make of it.
struct Hook {
    program_type: ProgramType,
    /// Code and name of every action, the dispatcher's own among them.
    actions: &'static [i32],
    /// Bit 0 of a mask is this code.
    first: i32,
    /// At the end of the chain.
    end: i32,
    names: [&'static str; 3],
    changes: &'static str,
    /// Function that a dispatcher begins with.
    whole: &'static str,
}

/// aborted, drop, pass, tx, redirect, dispatcher_return.
const XDP: Hook = Hook {
    program_type: ProgramType::Xdp,
    actions: &[0, 1, 2, 3, 4, 31],
    first: 0,
    end: 2,
    names: ["xdp_0", "xdp_1", "xdp_2"],
    changes: "xdp_changes",
    whole: "xdp_dispatcher",
};

/// unspec to trap, dispatcher_return.
const TC: Hook = Hook {
    program_type: ProgramType::Tc,
    actions: &[-1, 0, 1, 2, 3, 4, 5, 6, 7, 8, 30],
    first: -1,
    end: 0,
    names: ["tc_0", "tc_1", "tc_2"],
    changes: "tc_changes",
    whole: "tc_dispatcher",
};

impl Hook {
    fn config(&self, masks: [u32; 3], members: u8) -> DispatcherConfig {
        let mut chain_call_actions = [0; 10];
        chain_call_actions[..3].copy_from_slice(&masks);
        match self.program_type {
            ProgramType::Xdp => DispatcherConfig::Xdp(XdpDispatcherConfig {
                num_progs_enabled: members,
                is_xdp_frags: false,
                chain_call_actions,
                run_prios: [50; 10],
                program_flags: [0; 10],
            }),
            _ => DispatcherConfig::Tc(TcDispatcherConfig {
                num_progs_enabled: members,
                chain_call_actions,
                run_prios: [50; 10],
            }),
        }
    }

    fn bit(&self, action: i32) -> u32 {
        1 << (action - self.first)
    }

    /// Every action alone and every two of them, in each of three slots, whose masks always differ.
    fn masks(&self) -> Vec<[u32; 3]> {
        let mut masks = Vec::new();
        for (place, one) in self.actions.iter().enumerate() {
            for other in &self.actions[place..] {
                masks.push(self.bit(*one) | self.bit(*other));
            }
        }
        let count = masks.len();
        let slots = |first| [first, first + count / 3, first + count / 2].map(|n| masks[n % count]);
        (0..count).map(slots).collect()
    }

    /// Which of three programs run, as bits, and what comes out.
    fn model(&self, masks: [u32; 3], returns: [i32; 3]) -> (u64, i32) {
        let mut ran = 0;
        for (place, (mask, action)) in masks.into_iter().zip(returns).enumerate() {
            ran |= 1 << place;
            if mask & self.bit(action) == 0 {
                return (ran, action);
            }
        }
        (ran, self.end)
    }

    /// Runs a loaded program of the hook's type on a packet.
    fn run(&self, kernel: &LinuxKernel, program: &OwnedFd, packets: &mut dyn FnMut(&mut Run<'_>)) {
        let path = PathBuf::from("/sys/fs/bpf/dispatcher");
        kernel.pin(program, &path).unwrap();
        if self.program_type == ProgramType::Xdp {
            let program = Xdp::from_pin(&path, XdpAttachType::Interface).unwrap();
            packets(&mut |data| program.test_run(options(data)).unwrap().return_value);
        } else {
            let program = SchedClassifier::from_pin(&path).unwrap();
            packets(&mut |data| program.test_run(options(data)).unwrap().return_value);
        }
        kernel.unpin(&path).unwrap();
    }
}

/// Runs a program on a packet, and gives what it returned.
type Run<'a> = dyn FnMut(&[u8]) -> u32 + 'a;

fn options(data: &[u8]) -> TestRunOptions<'_> {
    TestRunOptions {
        data_in: Some(data),
        ..TestRunOptions::new()
    }
}

/// A packet whose first bytes are the answers of the three programs.
fn packet(returns: [i32; 3]) -> [u8; 64] {
    let mut packet = [0; 64];
    for (byte, action) in packet.iter_mut().zip(returns) {
        *byte = (action as i8).cast_unsigned();
    }
    packet
}

fn load(
    kernel: &LinuxKernel,
    object: &[u8],
    hook: &Hook,
    target: &OwnedFd,
    names: &[&str],
) -> Loaded<OwnedFd> {
    let program = |function| ProgramSpec {
        function,
        program_type: hook.program_type,
        attach_function: None,
        load_as: LoadAs::Extension {
            target,
            function: "compat_test",
        },
    };
    let spec = LoadSpec {
        object,
        programs: names.iter().copied().map(program).collect(),
        globals: &BTreeMap::new(),
        shared_maps: BTreeMap::new(),
    };
    kernel.load(&spec).unwrap()
}

#[test]
fn the_programs_that_run_are_those_of_the_model() {
    let test = "the_programs_that_run_are_those_of_the_model";
    if !guest::inside(test, &["proceed"]) {
        return;
    }
    let kernel = LinuxKernel::new();
    let object = objects::object("proceed").unwrap();
    for hook in [XDP, TC] {
        let template = kernel.load_dispatcher(&hook.config([0; 3], 0)).unwrap();
        let loaded = load(&kernel, &object, &hook, &template, &hook.names);
        drop(template);
        let map = loaded.maps.iter().find(|map| map.name == "ran").unwrap();
        let map = Map::Array(MapData::from_id(map.id).unwrap());
        let mut ran = Array::<_, u64>::try_from(map).unwrap();
        let mut runs = 0;
        for masks in hook.masks() {
            let dispatcher = kernel.load_dispatcher(&hook.config(masks, 3)).unwrap();
            let functions = ["prog0", "prog1", "prog2"];
            let links = loaded.programs.iter().zip(functions);
            let links = links.map(|(program, function)| {
                let spec = LinkSpec::Extension {
                    program: &program.handle,
                    target: &dispatcher,
                    function,
                };
                kernel.link(&spec).unwrap()
            });
            let _links: Vec<OwnedFd> = links.collect();
            // The last slot: one action that its mask has, and one that it has not.
            let has = |action: &&i32| masks[2] & hook.bit(**action) != 0;
            let ends = [
                hook.actions.iter().find(has).unwrap(),
                hook.actions.iter().find(|action| !has(action)).unwrap(),
            ];
            hook.run(&kernel, &dispatcher, &mut |run| {
                for first in hook.actions {
                    for second in hook.actions {
                        for third in ends {
                            let returns = [*first, *second, *third];
                            ran.set(0, 0, 0).unwrap();
                            let returned = run(&packet(returns)).cast_signed();
                            let found = (ran.get(&0, 0).unwrap(), returned);
                            let expected = hook.model(masks, returns);
                            let context =
                                format!("{} masks {masks:x?} {returns:?}", hook.program_type);
                            assert_eq!(found, expected, "{context}");
                            runs += 1;
                        }
                    }
                }
            });
        }
        println!(
            "{}: {runs} runs of {} masks",
            hook.program_type,
            hook.masks().len()
        );

        // What is no action is in no mask.
        let dispatcher = kernel
            .load_dispatcher(&hook.config([u32::MAX; 3], 1))
            .unwrap();
        let spec = LinkSpec::Extension {
            program: &loaded.programs[0].handle,
            target: &dispatcher,
            function: "prog0",
        };
        let link = kernel.link(&spec).unwrap();
        hook.run(&kernel, &dispatcher, &mut |run| {
            for code in [63, 95, 127, -2, -128] {
                let returned = run(&packet([code, 0, 0])).cast_signed();
                assert_eq!(returned, code, "{}", hook.program_type);
            }
        });
        drop(link);

        // In place of the whole dispatcher, a program's result is final.
        let spec = LinkSpec::Extension {
            program: &loaded.programs[0].handle,
            target: &dispatcher,
            function: hook.whole,
        };
        let link = kernel.link(&spec).unwrap();
        hook.run(&kernel, &dispatcher, &mut |run| {
            for code in hook.actions {
                ran.set(0, 0, 0).unwrap();
                let returned = run(&packet([*code, 0, 0])).cast_signed();
                let found = (ran.get(&0, 0).unwrap(), returned);
                assert_eq!(found, (1, *code), "{}", hook.program_type);
            }
        });
        drop(link);
        // Whoever takes its link away finds the dispatcher as it was.
        hook.run(&kernel, &dispatcher, &mut |run| {
            assert_eq!(run(&packet([0; 3])).cast_signed(), hook.end);
        });

        // A program that changes the packet, in either place.
        let dispatcher = kernel.load_dispatcher(&hook.config([0; 3], 1)).unwrap();
        let changing = load(&kernel, &object, &hook, &dispatcher, &[hook.changes]);
        for function in ["prog0", hook.whole] {
            let spec = LinkSpec::Extension {
                program: &changing.programs[0].handle,
                target: &dispatcher,
                function,
            };
            let link = kernel.link(&spec).unwrap();
            hook.run(&kernel, &dispatcher, &mut |run| {
                assert_eq!(run(&packet([0; 3])).cast_signed(), hook.end);
            });
            drop(link);
        }

        // What compiled programs can return.
        assert_eq!(loaded.programs[0].results, Results::ANY);
        if hook.program_type == ProgramType::Xdp {
            let results = changing.programs[0].results;
            let can = (-2..40).filter(|code| results.may_be(*code));
            assert_eq!(can.collect::<Vec<i32>>(), [1, 2]);
        }
    }
}
