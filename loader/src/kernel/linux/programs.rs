//! What the kernel says of programs that are loaded.

use std::ffi::c_char;
use std::fs;
use std::io::ErrorKind;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, SystemTime};

use rustix::time::{ClockId, clock_gettime};

use super::{KernelError, failed, program_types, sys};
use crate::kernel::ProgramBrief;
use crate::program::KernelState;

/// Most programs have fewer maps: then one call tells all.
const USUAL_MAPS: usize = 64;

pub(super) fn by_id(id: u32) -> Result<Option<OwnedFd>, KernelError> {
    match sys::program_by_id(id) {
        Ok(program) => Ok(Some(program)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(|| format!("opening program {id}"))(error)),
    }
}

pub(super) fn next_id(after: u32) -> Result<Option<u32>, KernelError> {
    match sys::next_program_id(after) {
        Ok(id) => Ok(Some(id)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(|| format!("looking for the program after {after}"))(
            error,
        )),
    }
}

pub(super) fn brief(id: u32) -> Result<Option<ProgramBrief>, KernelError> {
    let Some(program) = by_id(id)? else {
        return Ok(None);
    };
    let info = sys::program_info(program.as_fd(), &mut [])
        .map_err(failed(|| format!("reading program {id}")))?;
    Ok(Some(ProgramBrief {
        id,
        name: name(&info.name),
        program_type: program_types::word(info.type_).into_owned(),
    }))
}

pub(super) fn id(program: BorrowedFd<'_>) -> Result<u32, KernelError> {
    let info =
        sys::program_info(program, &mut []).map_err(failed(|| "reading a program".to_owned()))?;
    Ok(info.id)
}

pub(super) fn state(program: BorrowedFd<'_>) -> Result<KernelState, KernelError> {
    let call = || "reading a program".to_owned();
    let mut map_ids = vec![0; USUAL_MAPS];
    let mut info = sys::program_info(program, &mut map_ids).map_err(failed(call))?;
    let maps = info.nr_map_ids as usize;
    if maps > map_ids.len() {
        map_ids.resize(maps, 0);
        info = sys::program_info(program, &mut map_ids).map_err(failed(call))?;
    }
    map_ids.truncate(maps);
    map_ids.sort_unstable();
    let path = format!("/proc/self/fdinfo/{}", program.as_raw_fd());
    let fdinfo = fs::read_to_string(&path).map_err(failed(|| format!("reading {path}")))?;
    Ok(KernelState {
        id: info.id,
        name: name(&info.name),
        program_type: program_types::word(info.type_).into_owned(),
        loaded_at: since_boot(Duration::from_nanos(info.load_time)),
        tag: info.tag,
        gpl_compatible: info.gpl_compatible() != 0,
        map_ids,
        btf_id: info.btf_id,
        size_translated: info.xlated_prog_len,
        size_jitted: info.jited_prog_len,
        memory: memory(&fdinfo),
        verified_instructions: info.verified_insns,
    })
}

/// `load_time` counts from boot, as CLOCK_BOOTTIME does.
fn since_boot(loaded: Duration) -> Option<SystemTime> {
    let up = clock_gettime(ClockId::Boottime);
    let up = Duration::new(up.tv_sec.try_into().ok()?, up.tv_nsec.try_into().ok()?);
    SystemTime::now().checked_sub(up.checked_sub(loaded)?)
}

pub(super) fn name(bytes: &[c_char]) -> String {
    let bytes: Vec<u8> = bytes
        .iter()
        .map(|byte| byte.to_ne_bytes()[0])
        .take_while(|&byte| byte != 0)
        .collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// `memlock:` of a program's fdinfo, 0 when it is not there.
fn memory(fdinfo: &str) -> u64 {
    let mut lines = fdinfo
        .lines()
        .filter_map(|line| line.strip_prefix("memlock:"));
    lines
        .next()
        .and_then(|bytes| bytes.trim().parse().ok())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_from_fdinfo() {
        let cases = [
            (
                "pos:\t0\nprog_type:\t6\nmemlock:\t4096\nprog_id:\t7\n",
                4096,
            ),
            ("pos:\t0\n", 0),
            ("memlock:\tmuch\n", 0),
        ];
        for (text, expected) in cases {
            assert_eq!(memory(text), expected, "{text:?}");
        }
    }
}
