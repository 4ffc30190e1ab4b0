//! Which member sits in which slot: from values to values.

use crate::kernel::{DispatcherConfig, TcDispatcherConfig, XdpDispatcherConfig};
use crate::state::{Hook, MemberRecord};

use super::action;

/// Slots of a dispatcher (`MAX_DISPATCHER_ACTIONS` of libxdp's protocol).
pub(crate) const MAX_MEMBERS: usize = 10;

/// `BPF_F_XDP_HAS_FRAGS` of `enum` in linux/bpf.h.
const XDP_HAS_FRAGS: u32 = 1 << 5;

/// A program in a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) link_id: u32,
    pub(crate) program_id: u32,
    pub(crate) priority: u32,
    /// Which was attached first.
    pub(crate) sequence: u64,
    /// Mask of the actions after which the chain goes on.
    pub(crate) proceed_on: u32,
    pub(crate) loaded: MemberRecord,
}

/// Puts members in order: lower priorities first, then who came first.
pub(crate) fn sort(members: &mut [Member]) {
    members.sort_by_key(|member| (member.priority, member.sequence));
}

/// What a hook's dispatcher is told of members in order. More than [`MAX_MEMBERS`] are a mistake of the caller; they
/// get no slot.
pub(crate) fn config(hook: Hook, members: &[Member]) -> DispatcherConfig {
    let enabled = members.len().min(MAX_MEMBERS) as u8;
    let chain_call_actions = slots(members, |member| member.proceed_on);
    let run_prios = slots(members, |member| member.priority);
    match hook {
        Hook::Xdp => DispatcherConfig::Xdp(XdpDispatcherConfig {
            num_progs_enabled: enabled,
            is_xdp_frags: !members.is_empty() && members.iter().all(|member| member.loaded.frags),
            chain_call_actions,
            run_prios,
            program_flags: slots(members, |member| {
                if member.loaded.frags {
                    XDP_HAS_FRAGS
                } else {
                    0
                }
            }),
        }),
        Hook::Tc(_) | Hook::Tcx(_) => DispatcherConfig::Tc(TcDispatcherConfig {
            num_progs_enabled: enabled,
            chain_call_actions,
            run_prios,
        }),
    }
}

/// A table with one word a slot; 0 where no member is.
fn slots(members: &[Member], word: impl Fn(&Member) -> u32) -> [u32; MAX_MEMBERS] {
    let mut table = [0; MAX_MEMBERS];
    for (slot, member) in table.iter_mut().zip(members) {
        *slot = word(member);
    }
    table
}

/// Whether the only member can stand in for the whole dispatcher, so that packets go through nothing else.
pub(crate) fn is_whole(hook: Hook, members: &[Member]) -> bool {
    matches!(members, [only] if action::is_final(hook, only.proceed_on, only.loaded.never))
}

/// Name of the function of a slot.
pub(crate) fn slot_function(position: usize) -> String {
    format!("prog{position}")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::TcDirection;

    fn member(priority: u32, sequence: u64, proceed_on: u32, frags: bool) -> Member {
        Member {
            link_id: u32::try_from(sequence).unwrap() + 100,
            program_id: 7,
            priority,
            sequence,
            proceed_on,
            loaded: MemberRecord {
                extension: true,
                frags,
                never: 0,
            },
        }
    }

    fn xdp(members: &[Member]) -> XdpDispatcherConfig {
        match config(Hook::Xdp, members) {
            DispatcherConfig::Xdp(config) => config,
            DispatcherConfig::Tc(config) => unreachable!("{config:?}"),
        }
    }

    fn tc(members: &[Member]) -> TcDispatcherConfig {
        match config(Hook::Tc(TcDirection::Ingress), members) {
            DispatcherConfig::Tc(config) => config,
            DispatcherConfig::Xdp(config) => unreachable!("{config:?}"),
        }
    }

    #[test]
    fn an_empty_chain_has_no_slots_and_no_frags() {
        let config = xdp(&[]);
        assert_eq!((config.num_progs_enabled, config.is_xdp_frags), (0, false));
    }

    #[test]
    fn frags_need_every_member() {
        for (frags, expected) in [
            ([true, true], true),
            ([true, false], false),
            ([false, false], false),
        ] {
            let members = [member(1, 1, 4, frags[0]), member(2, 2, 4, frags[1])];
            let config = xdp(&members);
            assert_eq!(config.is_xdp_frags, expected, "{frags:?}");
            let flags = frags.map(|frags| if frags { 32 } else { 0 });
            assert_eq!(config.program_flags[..2], flags, "{frags:?}");
        }
    }

    /// The chain as a list to which members are added one by one, each behind those that may not come after it.
    fn model(arrivals: &[(u32, u32, bool)]) -> Vec<Member> {
        let mut chain: Vec<Member> = Vec::new();
        for (sequence, (priority, mask, frags)) in arrivals.iter().enumerate() {
            let place = chain
                .iter()
                .take_while(|member| member.priority <= *priority)
                .count();
            chain.insert(place, member(*priority, sequence as u64, *mask, *frags));
        }
        chain
    }

    proptest! {
        #[test]
        fn order_and_config_agree_with_a_chain_built_one_by_one(
            arrivals in prop::collection::vec((1_u32..=4, any::<u32>(), any::<bool>()), 0..=10),
            shuffle in any::<prop::sample::Index>(),
        ) {
            let expected = model(&arrivals);
            let mut members = expected.clone();
            if !members.is_empty() {
                let turn = shuffle.index(members.len());
                members.rotate_left(turn);
                members.reverse();
            }
            sort(&mut members);
            prop_assert_eq!(&members, &expected);

            let config = xdp(&members);
            prop_assert_eq!(usize::from(config.num_progs_enabled), expected.len());
            for slot in 0..MAX_MEMBERS {
                let seen = (config.chain_call_actions[slot], config.run_prios[slot], config.program_flags[slot]);
                let wanted = expected.get(slot).map_or((0, 0, 0), |member| {
                    (member.proceed_on, member.priority, u32::from(member.loaded.frags) << 5)
                });
                prop_assert_eq!(seen, wanted);
            }
            prop_assert_eq!(
                config.is_xdp_frags,
                !expected.is_empty() && !expected.iter().any(|member| !member.loaded.frags)
            );
            let tc = tc(&members);
            prop_assert_eq!(tc.num_progs_enabled, config.num_progs_enabled);
            prop_assert_eq!(tc.chain_call_actions, config.chain_call_actions);
            prop_assert_eq!(tc.run_prios, config.run_prios);
        }
    }
}
