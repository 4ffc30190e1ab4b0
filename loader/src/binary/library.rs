//! Names of shared libraries.

/// Whether a file of that name is the library `wanted`: the same name (`libc.so.6`), the name without what follows
/// `.so` (`libc`, `libc.so`), or the old style with a version before it (`libc-2.31.so`). musl's C library is its dynamic
/// linker: `libc` is `ld-musl-x86_64.so.1`, too, and the link to it, `libc.musl-x86_64.so.1`.
pub fn fits(file: &str, wanted: &str) -> bool {
    if matches!(wanted, "libc" | "libc.so") && is_musl(file) {
        return true;
    }
    let Some(rest) = file.strip_prefix(wanted) else {
        return false;
    };
    if wanted.is_empty() || rest.is_empty() {
        return !wanted.is_empty();
    }
    if is_shared(wanted) {
        return rest.starts_with('.');
    }
    let version = rest.strip_prefix('-').unwrap_or("");
    let (version, end) = match version.find(".so") {
        Some(end) => version.split_at(end),
        None => ("", rest),
    };
    let numbers = version.chars().all(|c| c.is_ascii_digit() || c == '.');
    numbers && (end == ".so" || end.starts_with(".so."))
}

fn is_musl(file: &str) -> bool {
    let rest = file
        .strip_prefix("ld-musl-")
        .or_else(|| file.strip_prefix("libc.musl-"));
    let arch = rest.and_then(|rest| rest.strip_suffix(".so.1"));
    arch.is_some_and(|arch| !arch.is_empty() && !arch.contains(['.', '/']))
}

/// Whether a target can be a library's name: not a path.
pub fn is_name(target: &str) -> bool {
    !target.is_empty() && !target.contains(['/', '\0']) && target != "." && target != ".."
}

fn is_shared(name: &str) -> bool {
    name.ends_with(".so") || name.contains(".so.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_library_is_known_by_its_name_with_and_without_version() {
        for (file, wanted, expected) in [
            ("libc.so.6", "libc", true),
            ("libc.so.6", "libc.so", true),
            ("libc.so.6", "libc.so.6", true),
            ("libc.so", "libc", true),
            ("libc-2.31.so", "libc", true),
            ("libc-2.31.so.1", "libc", true),
            ("libstdc++.so.6.0.30", "libstdc++.so.6", true),
            ("libc.so.6", "lib", false),
            ("libcap.so.2", "libc", false),
            ("libc-client.so.2007", "libc", false),
            ("libc.so.6", "libc.so.", false),
            ("libc.so.60", "libc.so.6", false),
            ("libc.a", "libc", false),
            ("libc.sox", "libc", false),
            ("libc.so.6", "libc.so.6.1", false),
            ("libc.so.6", "", false),
            ("ld-linux-x86-64.so.2", "ld-linux-x86-64", true),
            ("ld-musl-x86_64.so.1", "libc", true),
            ("libc.musl-aarch64.so.1", "libc", true),
            ("libc.musl-aarch64.so.1", "libc.so", true),
            ("ld-musl-x86_64.so.1", "libc.so.6", false),
            ("ld-musl-x86_64.so.1", "libm", false),
            ("ld-musl-x86_64.path", "libc", false),
            ("ld-musl-.so.1", "libc", false),
        ] {
            assert_eq!(fits(file, wanted), expected, "{file} {wanted}");
        }
    }

    #[test]
    fn a_name_is_no_path() {
        for (target, expected) in [
            ("libc", true),
            ("libc.so.6", true),
            ("", false),
            ("./libc.so", false),
            ("/lib/libc.so", false),
            ("..", false),
        ] {
            assert_eq!(is_name(target), expected, "{target}");
        }
    }
}
