//! What is kept, and under which keys. Nothing that the kernel or bpffs can tell.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;

use bytecode_object::ProgramType;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::TcDirection;
use crate::error::HookPlace;
use crate::kernel::Device;

/// The hooks on which programs stand in an order of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Hook {
    Xdp,
    Tc(TcDirection),
    Tcx(TcDirection),
}

impl Hook {
    /// Those with dispatchers.
    pub(crate) const CHAINED: [Self; 3] = [
        Self::Xdp,
        Self::Tc(TcDirection::Ingress),
        Self::Tc(TcDirection::Egress),
    ];

    /// Name of it in keys and in bpffs.
    pub(crate) const fn folder(self) -> &'static str {
        match self {
            Self::Xdp => "xdp",
            Self::Tc(TcDirection::Ingress) => "tc-ingress",
            Self::Tc(TcDirection::Egress) => "tc-egress",
            Self::Tcx(TcDirection::Ingress) => "tcx-ingress",
            Self::Tcx(TcDirection::Egress) => "tcx-egress",
        }
    }
}

/// One hook of one interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ChainKey {
    pub(crate) hook: Hook,
    /// Inode of the network namespace.
    pub(crate) nsid: u64,
    /// Interface index in it.
    pub(crate) ifindex: u32,
}

/// Which record: the path of its file in the folder of records, without `.json`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Key {
    Program(u32),
    Link(u32),
    Chain(ChainKey),
    /// clsact of an interface.
    Clsact {
        nsid: u64,
        ifindex: u32,
    },
}

/// Folder of the records of programs.
pub(crate) const PROGRAMS: &str = "programs";
/// Folder of the records of links.
pub(crate) const LINKS: &str = "links";
/// Folder of the records of our clsacts.
pub(crate) const CLSACTS: &str = "clsact";

impl Key {
    /// The folder of records like it.
    pub(crate) const fn folder(self) -> &'static str {
        match self {
            Self::Program(_) => PROGRAMS,
            Self::Link(_) => LINKS,
            Self::Chain(key) => key.hook.folder(),
            Self::Clsact { .. } => CLSACTS,
        }
    }

    /// Name in that folder.
    pub(crate) fn name(self) -> String {
        match self {
            Self::Program(id) | Self::Link(id) => id.to_string(),
            Self::Chain(ChainKey { nsid, ifindex, .. }) | Self::Clsact { nsid, ifindex } => {
                format!("{nsid}_{ifindex}")
            }
        }
    }

    /// The other way round; `None` for a name that is none of ours.
    pub(crate) fn from_name(folder: &str, name: &str) -> Option<Self> {
        let hook = || {
            Hook::CHAINED
                .into_iter()
                .find(|hook| hook.folder() == folder)
        };
        let key = match folder {
            PROGRAMS => Self::Program(name.parse().ok()?),
            LINKS => Self::Link(name.parse().ok()?),
            _ => {
                let (nsid, ifindex) = name.split_once('_')?;
                let (nsid, ifindex) = (nsid.parse().ok()?, ifindex.parse().ok()?);
                if folder == CLSACTS {
                    Self::Clsact { nsid, ifindex }
                } else {
                    let hook = hook()?;
                    Self::Chain(ChainKey {
                        hook,
                        nsid,
                        ifindex,
                    })
                }
            }
        };
        // Without signs and leading zeros.
        (key.name() == name).then_some(key)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.folder(), self.name())
    }
}

impl Serialize for Key {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <Cow<'_, str>>::deserialize(deserializer)?;
        let key = text.split_once('/');
        let key = key.and_then(|(folder, name)| Self::from_name(folder, name));
        key.ok_or_else(|| D::Error::custom(format!("`{text}` is not the key of a record")))
    }
}

/// A program of ours.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ProgramRecord {
    pub(crate) function: String,
    pub(crate) program_type: ProgramType,
    pub(crate) attach_function: Option<String>,
    pub(crate) source: SourceRecord,
    pub(crate) globals: BTreeMap<String, HexBytes>,
    pub(crate) metadata: BTreeMap<String, String>,
    /// Program after which the folder of its maps is named.
    pub(crate) maps_folder: u32,
    /// Maps that it shares by name with every other load (`LIBBPF_PIN_BY_NAME`).
    #[serde(default)]
    pub(crate) maps_by_name: BTreeSet<String>,
    /// XDP and TC programs.
    pub(crate) member: Option<MemberRecord>,
    /// From `kretprobe`, `uretprobe`.
    #[serde(default)]
    pub(crate) retprobe: bool,
}

/// Bytes, written in hex: JSON has none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HexBytes(pub(crate) Vec<u8>);

impl Serialize for HexBytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let text: String = self.0.iter().map(|byte| format!("{byte:02x}")).collect();
        serializer.serialize_str(&text)
    }
}

impl<'de> Deserialize<'de> for HexBytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <Cow<'_, str>>::deserialize(deserializer)?;
        let digits: Option<Vec<u32>> = text.chars().map(|digit| digit.to_digit(16)).collect();
        let digits = digits.filter(|digits| digits.len() % 2 == 0);
        let digits =
            digits.ok_or_else(|| D::Error::custom("bytes are an even number of hex digits"))?;
        let pairs = digits.chunks_exact(2);
        let bytes = pairs.map(|pair| {
            pair.iter()
                .fold(0_u8, |byte, digit| (byte << 4) | (*digit as u8))
        });
        Ok(Self(bytes.collect()))
    }
}

/// What a chain must know of a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct MemberRecord {
    /// Loaded for the dispatcher; else the kernel refused EXT programs and it is a plain program.
    pub(crate) extension: bool,
    /// From `xdp.frags`.
    pub(crate) frags: bool,
    /// Mask of the actions that its instructions cannot return, as those of `--proceed-on`.
    #[serde(default)]
    pub(crate) never: u32,
}

/// Where an object came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum SourceRecord {
    File {
        path: String,
    },
    Image {
        url: String,
        digest: String,
        pull_policy: String,
    },
}

/// A link of ours.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LinkRecord {
    pub(crate) program_id: u32,
    /// Counts up: which link was made first.
    pub(crate) sequence: u64,
    /// Its own metadata, without the program's.
    pub(crate) metadata: BTreeMap<String, String>,
    pub(crate) place: PlaceRecord,
}

/// Where a link is. Names, indices and namespaces of interfaces are those of the time when it was recorded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum PlaceRecord {
    Xdp {
        iface: String,
        nsid: u64,
        ifindex: u32,
        priority: u32,
        /// One bit an action.
        proceed_on: u32,
        netns: Option<PathBuf>,
    },
    Tc {
        iface: String,
        direction: TcDirection,
        nsid: u64,
        ifindex: u32,
        priority: u32,
        /// One bit an action.
        proceed_on: u32,
        netns: Option<PathBuf>,
    },
    Tcx {
        iface: String,
        direction: TcDirection,
        nsid: u64,
        ifindex: u32,
        priority: u32,
        netns: Option<PathBuf>,
    },
    Tracepoint {
        tracepoint: String,
    },
    Kprobe {
        function: String,
        offset: u64,
    },
    Uprobe {
        target: String,
        function: Option<String>,
        offset: u64,
        pid: Option<u32>,
        container_pid: Option<u32>,
        /// The file that was found.
        path: PathBuf,
    },
    Fentry,
    Fexit,
}

impl LinkRecord {
    /// Where it stands in an order, and its priority there.
    pub(crate) fn order(&self) -> Option<(ChainKey, u32)> {
        let (hook, nsid, ifindex, priority) = match self.place {
            PlaceRecord::Xdp {
                nsid,
                ifindex,
                priority,
                ..
            } => (Hook::Xdp, nsid, ifindex, priority),
            PlaceRecord::Tc {
                direction,
                nsid,
                ifindex,
                priority,
                ..
            } => (Hook::Tc(direction), nsid, ifindex, priority),
            PlaceRecord::Tcx {
                direction,
                nsid,
                ifindex,
                priority,
                ..
            } => (Hook::Tcx(direction), nsid, ifindex, priority),
            PlaceRecord::Tracepoint { .. }
            | PlaceRecord::Kprobe { .. }
            | PlaceRecord::Uprobe { .. }
            | PlaceRecord::Fentry
            | PlaceRecord::Fexit => return None,
        };
        let key = ChainKey {
            hook,
            nsid,
            ifindex,
        };
        Some((key, priority))
    }

    /// The hook that it is on, where that is one of an interface.
    pub(crate) fn hook(&self) -> Option<HookPlace> {
        let (iface, direction, netns) = match &self.place {
            PlaceRecord::Xdp { iface, netns, .. } => (iface, None, netns),
            PlaceRecord::Tc {
                iface,
                direction,
                netns,
                ..
            }
            | PlaceRecord::Tcx {
                iface,
                direction,
                netns,
                ..
            } => (iface, Some(*direction), netns),
            _ => return None,
        };
        Some(HookPlace {
            iface: iface.clone(),
            direction,
            netns: netns.clone(),
        })
    }

    /// Puts it onto another hook of the same kind: its interface has other numbers now, and maybe another name.
    pub(crate) fn rekey(&mut self, to: ChainKey, known: Option<(&str, &Device)>) {
        if let PlaceRecord::Xdp {
            iface,
            nsid,
            ifindex,
            netns,
            ..
        }
        | PlaceRecord::Tc {
            iface,
            nsid,
            ifindex,
            netns,
            ..
        }
        | PlaceRecord::Tcx {
            iface,
            nsid,
            ifindex,
            netns,
            ..
        } = &mut self.place
        {
            (*nsid, *ifindex) = (to.nsid, to.ifindex);
            if let Some((name, device)) = known {
                name.clone_into(iface);
                netns.clone_from(&device.netns);
            }
        }
    }

    /// The dispatcher's chain it is in; TCX links have none.
    pub(crate) fn chain(&self) -> Option<ChainKey> {
        let (key, _) = self.order()?;
        (!matches!(key.hook, Hook::Tcx(_))).then_some(key)
    }

    /// Mask of the actions after which its chain goes on.
    pub(crate) fn proceed_on(&self) -> Option<u32> {
        match self.place {
            PlaceRecord::Xdp { proceed_on, .. } | PlaceRecord::Tc { proceed_on, .. } => {
                Some(proceed_on)
            }
            _ => None,
        }
    }
}

/// A chain. Its members are the links with its key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ChainRecord {
    /// Revision of the dispatcher that is attached, 0 for none (`direct`).
    pub(crate) revision: u32,
    /// Kernel id of the program that is attached: the dispatcher, or the one member itself.
    pub(crate) program_id: u32,
    /// Mode that an XDP link was made with; `None` for TC.
    pub(crate) mode: Option<ModeRecord>,
    /// The one member is attached without a dispatcher.
    pub(crate) direct: bool,
    /// Path that the namespace was first reached at, `None` for ours.
    pub(crate) netns: Option<PathBuf>,
}

/// A clsact that we made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ClsactRecord {
    /// Interface name.
    pub(crate) iface: String,
    /// Path that the namespace was reached at, `None` for ours.
    #[serde(default)]
    pub(crate) netns: Option<PathBuf>,
}

/// A mode of XDP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ModeRecord {
    Drv,
    Skb,
    Hw,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_survive_json() {
        for (bytes, text) in [(vec![], "\"\""), (vec![0, 0x7f, 0xff], "\"007fff\"")] {
            let bytes = HexBytes(bytes);
            assert_eq!(serde_json::to_string(&bytes).unwrap(), text);
            assert_eq!(serde_json::from_str::<HexBytes>(text).unwrap(), bytes);
        }
        for spoiled in ["\"0\"", "\"0g\"", "7"] {
            assert!(
                serde_json::from_str::<HexBytes>(spoiled).is_err(),
                "{spoiled}"
            );
        }
    }

    #[test]
    fn keys_are_read_as_they_are_written_and_lead_nowhere_else() {
        let chain = ChainKey {
            hook: Hook::Tc(TcDirection::Egress),
            nsid: u64::MAX,
            ifindex: 7,
        };
        let clsact = Key::Clsact {
            nsid: 1,
            ifindex: 2,
        };
        for (key, text) in [
            (Key::Program(7), "\"programs/7\""),
            (Key::Link(u32::MAX), "\"links/4294967295\""),
            (Key::Chain(chain), "\"tc-egress/18446744073709551615_7\""),
            (clsact, "\"clsact/1_2\""),
        ] {
            assert_eq!(serde_json::to_string(&key).unwrap(), text);
            assert_eq!(serde_json::from_str::<Key>(text).unwrap(), key);
        }
        for text in [
            "programs/07",
            "programs/+7",
            "programs/../lock",
            "../programs/7",
            "programs",
            "xdp/1",
            "xdp/1_02",
            "tcx-ingress/1_2",
            "/etc/1_2",
            "",
        ] {
            let text = serde_json::to_string(text).unwrap();
            assert!(serde_json::from_str::<Key>(&text).is_err(), "{text}");
        }
    }
}
