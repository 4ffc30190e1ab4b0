//! Which member sits in which slot: from values to values.

use crate::kernel::XdpDispatcherConfig;
use crate::state::XdpRecord;

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
    pub(crate) xdp: XdpRecord,
}

/// Puts members in order: lower priorities first, then who came first.
pub(crate) fn sort(members: &mut [Member]) {
    members.sort_by_key(|member| (member.priority, member.sequence));
}

/// What a dispatcher is told of members in order. More than [`MAX_MEMBERS`] are a mistake of the caller; they get no slot.
pub(crate) fn config(members: &[Member]) -> XdpDispatcherConfig {
    let mut config = XdpDispatcherConfig {
        num_progs_enabled: 0,
        is_xdp_frags: !members.is_empty() && members.iter().all(|member| member.xdp.frags),
        chain_call_actions: [0; MAX_MEMBERS],
        run_prios: [0; MAX_MEMBERS],
        program_flags: [0; MAX_MEMBERS],
    };
    let slots = config
        .chain_call_actions
        .iter_mut()
        .zip(&mut config.run_prios)
        .zip(&mut config.program_flags);
    for (((actions, priority), flags), member) in slots.zip(members) {
        *actions = member.proceed_on;
        *priority = member.priority;
        *flags = if member.xdp.frags { XDP_HAS_FRAGS } else { 0 };
        config.num_progs_enabled += 1;
    }
    config
}

/// Name of the function of a slot.
pub(crate) fn slot_function(position: usize) -> String {
    format!("prog{position}")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn member(priority: u32, sequence: u64, proceed_on: u32, frags: bool) -> Member {
        Member {
            link_id: u32::try_from(sequence).unwrap() + 100,
            program_id: 7,
            priority,
            sequence,
            proceed_on,
            xdp: XdpRecord {
                extension: true,
                frags,
            },
        }
    }

    #[test]
    fn an_empty_chain_has_no_slots_and_no_frags() {
        let config = config(&[]);
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
            let config = config(&members);
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

            let config = config(&members);
            prop_assert_eq!(usize::from(config.num_progs_enabled), expected.len());
            for slot in 0..MAX_MEMBERS {
                let seen = (config.chain_call_actions[slot], config.run_prios[slot], config.program_flags[slot]);
                let wanted = expected.get(slot).map_or((0, 0, 0), |member| {
                    (member.proceed_on, member.priority, u32::from(member.xdp.frags) << 5)
                });
                prop_assert_eq!(seen, wanted);
            }
            prop_assert_eq!(
                config.is_xdp_frags,
                !expected.is_empty() && !expected.iter().any(|member| !member.xdp.frags)
            );
        }
    }
}
