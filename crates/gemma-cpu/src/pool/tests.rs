//! [`Pool`] as its callers see it: every thread, every range, every panic.

use super::*;

#[test]
fn every_thread_is_called_once_in_each_region() {
    for threads in [1, 2, 3, 5] {
        let pool = Pool::new(threads).unwrap();
        for _ in 0..200 {
            let calls: Vec<AtomicUsize> = (0..threads).map(|_| AtomicUsize::new(0)).collect();
            pool.run(|index, count| {
                assert_eq!(count, threads);
                calls[index].fetch_add(1, Ordering::Relaxed);
            });
            assert!(calls.iter().all(|calls| calls.load(Ordering::Relaxed) == 1), "{threads} threads");
        }
    }
}

#[test]
fn ranges_cover_everything_once_and_start_aligned() {
    let pool = Pool::new(3).unwrap();
    for total in [0, 1, 3, 4, 5, 31, 1000] {
        for align in [1, 4, 32] {
            let seen: Vec<AtomicUsize> = (0..total).map(|_| AtomicUsize::new(0)).collect();
            pool.for_ranges(total, align, |range| {
                assert!(range.start.is_multiple_of(align));
                for index in range {
                    seen[index].fetch_add(1, Ordering::Relaxed);
                }
            });
            assert!(seen.iter().all(|n| n.load(Ordering::Relaxed) == 1), "{total} by {align}");
        }
    }
}

#[test]
fn chunks_are_disjoint_and_writable() {
    let pool = Pool::new(2).unwrap();
    let mut values = vec![0; 103];
    pool.for_chunks_mut(&mut values, 10, |index, chunk| chunk.fill(index));
    assert!(values.iter().enumerate().all(|(i, value)| *value == i / 10));
}

#[test]
fn a_panic_on_any_thread_reaches_the_caller_and_the_pool_lives_on() {
    let pool = Pool::new(3).unwrap();
    for bad in 0..3 {
        let result = panic::catch_unwind(AssertUnwindSafe(|| {
            pool.run(|index, _| assert!(index != bad, "thread {bad} fails"));
        }));
        let payload = result.unwrap_err();
        assert_eq!(payload.downcast_ref::<String>().unwrap(), &format!("thread {bad} fails"));
        let calls = AtomicUsize::new(0);
        pool.run(|_, _| {
            calls.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(calls.into_inner(), 3);
    }
}

#[test]
fn a_nested_region_runs_on_its_own_thread() {
    let pool = Pool::new(2).unwrap();
    let calls = AtomicUsize::new(0);
    pool.run(|_, _| {
        pool.run(|index, threads| {
            assert_eq!((index, threads), (0, 1));
            calls.fetch_add(1, Ordering::Relaxed);
        });
    });
    assert_eq!(calls.into_inner(), 2);
}

#[test]
fn callers_on_several_threads_take_turns() {
    let pool = Pool::new(2).unwrap();
    let inside = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                for _ in 0..100 {
                    pool.run(|_, _| {
                        assert!(inside.fetch_add(1, Ordering::SeqCst) < 2);
                        inside.fetch_sub(1, Ordering::SeqCst);
                    });
                }
            });
        }
    });
}

#[test]
fn a_worker_that_fell_asleep_wakes_up() {
    let pool = Pool::new(2).unwrap();
    for _ in 0..3 {
        // Long enough for the worker to stop spinning; the test holds either way.
        let asleep = std::time::Instant::now();
        while asleep.elapsed() < std::time::Duration::from_millis(5) {
            thread::yield_now();
        }
        let calls = AtomicUsize::new(0);
        pool.run(|_, _| {
            calls.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(calls.into_inner(), 2);
    }
}

#[test]
fn impossible_counts_are_refused() {
    assert!(matches!(Pool::new(0), Err(PoolError::NoThreads)));
    assert!(matches!(Pool::new(Pool::MAX_THREADS + 1), Err(PoolError::TooMany(_))));
}

#[test]
fn rounds_count_the_regions_that_all_threads_ran() {
    let pool = Pool::new(2).unwrap();
    pool.run(|_, _| ());
    pool.for_ranges(1, 1, |_| ());
    assert_eq!(pool.rounds(), 1, "one range needs no barrier");
    pool.for_ranges(100, 1, |_| ());
    assert_eq!(pool.rounds(), 2);
}
