use log::warn;

use crate::change::Change;
use crate::error::Doing;
use crate::kernel::{Kernel, LinkSpec};
use crate::state::ModeRecord;
use crate::{Loader, LoaderError, XdpMode};

use super::chain::{Founded, Place};

impl<K: Kernel> Loader<K> {
    pub(super) fn refuse_foreign_xdp(&self, place: &Place<'_>) -> Result<(), LoaderError> {
        let state = self.kernel.interface_state(&place.device);
        let state = state.doing(|| format!("looking for XDP programs on {}", place.name))?;
        match state.xdp.first() {
            None => Ok(()),
            Some((mode, foreign)) => Err(LoaderError::ForeignXdp {
                id: place.program_id,
                place: place.name.clone(),
                foreign: *foreign,
                mode: *mode,
            }),
        }
    }

    /// Puts the first program of a chain onto its hook.
    pub(super) fn found_xdp(
        &self,
        change: &mut Change<'_, K>,
        place: &Place<'_>,
        program: &K::Handle,
        mode: Option<XdpMode>,
    ) -> Result<Founded, LoaderError> {
        let modes = &self.config.xdp_modes;
        let configured = modes.get(&place.name.iface);
        let configured = configured.or_else(|| modes.get(&place.iface));
        let mode = mode.or_else(|| configured.copied());
        let (link, mode) = self.link_in_mode(place, program, mode)?;
        change.pin(&link, &self.pins().xdp_link(place.key))?;
        Ok(Founded {
            mode: Some(mode),
            ..Founded::default()
        })
    }

    /// Makes the XDP link; without a mode in the driver's, then in generic mode where the driver refuses.
    fn link_in_mode(
        &self,
        place: &Place<'_>,
        program: &K::Handle,
        asked: Option<XdpMode>,
    ) -> Result<(K::Handle, XdpMode), LoaderError> {
        let attempt = |mode| {
            let link = self.kernel.link(&LinkSpec::Xdp {
                program,
                device: &place.device,
                mode,
            });
            link.map(|link| (link, mode))
        };
        let what = || format!("attaching the XDP link to {}", place.name);
        match (attempt(asked.unwrap_or(XdpMode::Driver)), asked) {
            (Err(error), None) if error.is_drivers() => {
                warn!(
                    "{} takes no XDP programs in driver (drv) mode ({error}): attaching in generic (skb) mode, which is slower",
                    place.name
                );
                attempt(XdpMode::Skb).doing(what)
            }
            (Err(source), Some(mode)) if source.is_drivers() => Err(LoaderError::ModeRefused {
                id: place.program_id,
                place: place.name.clone(),
                mode: mode_word(Some(mode.into())),
                source,
            }),
            (linked, _) => linked.doing(what),
        }
    }
}

impl From<XdpMode> for ModeRecord {
    fn from(mode: XdpMode) -> Self {
        match mode {
            XdpMode::Driver => Self::Drv,
            XdpMode::Skb => Self::Skb,
            XdpMode::Hardware => Self::Hw,
        }
    }
}

impl From<ModeRecord> for XdpMode {
    fn from(mode: ModeRecord) -> Self {
        match mode {
            ModeRecord::Drv => Self::Driver,
            ModeRecord::Skb => Self::Skb,
            ModeRecord::Hw => Self::Hardware,
        }
    }
}

pub(super) fn mode_word(mode: Option<ModeRecord>) -> &'static str {
    match mode {
        Some(ModeRecord::Drv) => "drv",
        Some(ModeRecord::Skb) => "skb",
        Some(ModeRecord::Hw) => "hw",
        None => "unknown",
    }
}
