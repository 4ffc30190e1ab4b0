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
    let LoaderError::State(StateError::Locked { path, waited, .. }) = &error else {
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

/// Ticket numbers, in order.
fn tickets(bench: &Bench) -> Vec<u64> {
    let Ok(entries) = std::fs::read_dir(bench.run_dir().join("queue")) else {
        return Vec::new();
    };
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut numbers: Vec<u64> = names.map(|name| name.parse().unwrap()).collect();
    numbers.sort_unstable();
    numbers
}

fn patient() -> Bench {
    let bench = Bench::with(|config| config.lock_delay = Duration::from_secs(60));
    bench.load(&["xdp:pass"]);
    bench
}

#[test]
fn message_names_the_process_that_holds_the_lock() {
    let bench = Bench::new();
    bench.load(&["xdp:pass"]);
    let held = bench.lock();
    let error = bench.loader.lock().unwrap_err().to_string();
    let lock = bench.run_dir().join("lock");
    let program = std::env::args().next().unwrap();
    let program = program.rsplit('/').next().unwrap();
    let expected = format!(
        "cannot lock {}: held by process {} (`{program}",
        lock.display(),
        std::process::id()
    );
    assert!(error.starts_with(&expected), "{error}");
    assert!(error.contains("`) since 20"), "{error}");
    drop(held);
    // A process that did not get to say so is not taken for one that has ended.
    let file = std::fs::File::open(&lock).unwrap();
    rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive).unwrap();
    std::fs::write(&lock, r#"{"pid":2147483647,"command":"x","since":"y"}"#).unwrap();
    let error = bench.loader.lock().unwrap_err().to_string();
    assert!(error.contains("held by another process; waited"), "{error}");
}

#[test]
fn sixty_four_are_served_in_the_order_in_which_they_came() {
    const WAITERS: usize = 64;
    let bench = patient();
    let served = std::sync::Mutex::new(Vec::new());
    let held = bench.lock();
    thread::scope(|scope| {
        for number in 0..WAITERS {
            let config = bench.loader.config.clone();
            let served = &served;
            scope.spawn(move || {
                let loader = Loader::new(FakeKernel::new(), config);
                let _guard = loader.lock().unwrap();
                served.lock().unwrap().push(number);
            });
            while tickets(&bench).len() <= number {
                thread::yield_now();
            }
        }
        drop(held);
    });
    assert!(served.into_inner().unwrap().into_iter().eq(0..WAITERS));
    assert!(tickets(&bench).is_empty());
}

#[test]
fn tickets_of_killed_and_stopped_processes_are_passed_over() {
    let bench = patient();
    let queue = bench.run_dir().join("queue");
    std::fs::create_dir_all(&queue).unwrap();
    for dead in 1..4 {
        std::fs::write(queue.join(dead.to_string()), "1").unwrap();
    }
    let mut stopped = std::process::Command::new("sleep")
        .arg("600")
        .spawn()
        .unwrap();
    let pid = rustix::process::Pid::from_child(&stopped);
    rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
    let state = format!("/proc/{}/stat", stopped.id());
    while !std::fs::read_to_string(&state).unwrap().contains(") T ") {
        thread::yield_now();
    }
    std::fs::write(queue.join("4"), stopped.id().to_string()).unwrap();
    let ticket = std::fs::File::open(queue.join("4")).unwrap();
    rustix::fs::flock(&ticket, rustix::fs::FlockOperation::LockExclusive).unwrap();
    bench.lock();
    stopped.kill().unwrap();
    stopped.wait().unwrap();
    assert_eq!(tickets(&bench), [4]);
    drop(ticket);
    bench.lock();
    assert!(tickets(&bench).is_empty());
}
