//! Panics that a test looks for: takes what may panic, gives what it said and where. Those of other tests, which run
//! beside it, are told as ever.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

thread_local! {
    /// Whether a panic of this thread is looked for.
    static CATCHING: Cell<bool> = const { Cell::new(false) };
    /// The last one, with its place.
    static SAID: RefCell<String> = const { RefCell::new(String::new()) };
}

/// The value, or the text of the panic. Of a thread that the function started it is the message alone.
pub fn caught<T>(f: impl FnOnce() -> T) -> Result<T, String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let told_at_once = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| match CATCHING.get() {
            true => SAID.set(info.to_string()),
            false => told_at_once(info),
        }));
    });
    CATCHING.set(true);
    let result = catch_unwind(AssertUnwindSafe(f));
    CATCHING.set(false);
    let said = SAID.take();
    result.map_err(|panic| match said.is_empty() {
        true => panic.downcast_ref::<String>().cloned().unwrap_or_default(),
        false => said,
    })
}
