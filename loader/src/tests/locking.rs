use std::sync::Barrier;
use std::thread;

use super::*;
use crate::StateError;

#[test]
fn nothing_is_made_before_the_first_load() {
    let bench = Bench::new();
    let mut guard = bench.lock();
    assert_eq!(
        bench
            .loader
            .links(&guard, &LinkFilter::default())
            .unwrap()
            .len(),
        0
    );
    assert!(
        bench
            .loader
            .programs(&guard, &ProgramFilter::default())
            .unwrap()
            .is_empty()
    );
    assert!(matches!(
        bench.loader.detach(&mut guard, 7),
        Err(LoaderError::NoSuchLink { id: 7 })
    ));
    assert!(matches!(
        bench.loader.unload(&mut guard, 7),
        Err(LoaderError::NoSuchProgram { id: 7 })
    ));
    assert!(!bench.run_dir().exists());
    // The same guard then locks for the first load.
    bench
        .loader
        .load(&mut guard, request(&["xdp:pass"]))
        .unwrap();
    assert!(matches!(
        bench.loader.lock(),
        Err(LoaderError::State(StateError::Locked { .. }))
    ));
}

#[test]
fn the_lock_is_waited_for_and_then_named() {
    let bench = Bench::new();
    bench.load(&["xdp:pass"]);
    let held = bench.lock();
    let error = bench.loader.lock().unwrap_err();
    let LoaderError::State(StateError::Locked { path, waited }) = &error else {
        unreachable!("{error}")
    };
    assert_eq!(*path, bench.run_dir().join("lock"));
    assert!(*waited >= Duration::from_millis(20), "{waited:?}");
    assert!(error.hint().is_some());
    drop(held);
    bench.lock();
}

#[test]
fn fifty_at_once_all_get_through() {
    let bench = Bench::with(|config| config.lock_delay = Duration::from_secs(60));
    bench.load(&["xdp:pass"]);
    let config = bench.loader.config.clone();
    let start = Barrier::new(50);
    let inside = std::sync::atomic::AtomicU32::new(0);
    thread::scope(|scope| {
        for _ in 0..50 {
            scope.spawn(|| {
                let loader = Loader::new(FakeKernel::new(), config.clone());
                start.wait();
                let guard = loader.lock().unwrap();
                assert_eq!(
                    inside.fetch_add(1, std::sync::atomic::Ordering::SeqCst),
                    0,
                    "two hold the lock"
                );
                assert_eq!(
                    guard.records().unwrap().unwrap().programs().unwrap().len(),
                    1
                );
                inside.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
            });
        }
    });
}

#[test]
fn a_patience_longer_than_time_is_no_mistake() {
    let bench = Bench::with(|config| {
        config.lock_retries = u32::MAX;
        config.lock_delay = Duration::from_secs(u64::MAX);
    });
    bench.load(&["xdp:pass"]);
}
