use std::panic::PanicHookInfo;
use std::sync::Mutex;

/// The newest panic of this process.
static MESSAGE: Mutex<Option<String>> = Mutex::new(None);

/// From now on a panic prints nothing where it happens. One that a library catches (aya's parser may panic on
/// hostile objects) stays unseen; one that reaches `main` is printed there, as one line.
pub(crate) fn hold() {
    std::panic::set_hook(Box::new(|info| {
        if let Ok(mut message) = MESSAGE.lock() {
            *message = Some(describe(info));
        }
    }));
}

/// What the newest panic said, and where.
pub(crate) fn message() -> String {
    MESSAGE
        .lock()
        .ok()
        .and_then(|message| message.clone())
        .unwrap_or_else(|| "unknown cause".to_owned())
}

fn describe(info: &PanicHookInfo<'_>) -> String {
    let text = info.payload_as_str().unwrap_or("panic");
    match info.location() {
        Some(place) => format!("{text} ({}:{})", place.file(), place.line()),
        None => text.to_owned(),
    }
}
