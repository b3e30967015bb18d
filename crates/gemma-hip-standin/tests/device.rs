//! The device as a program sees it: what it says of itself, its memory, and libraries that lack something.

#![cfg(target_os = "linux")]

mod common;

use std::ffi::{CStr, c_int, c_void};
use std::ptr;

use common::{Device, folder};
use gemma_hip_standin::StandIn;
use hip_sys::*;

#[test]
fn it_says_that_it_is_emulated() {
    let Device { hip, .. } = Device::new();
    let (mut count, mut name, mut bus) = (0, [0; 64], [0; 16]);
    // SAFETY: the places live as long as the calls and have the sizes that are given.
    unsafe {
        assert_eq!((hip.hipInit)(0), hipSuccess);
        assert_eq!((hip.hipGetDeviceCount)(&raw mut count), hipSuccess);
        assert_eq!((hip.hipDeviceGetName)(name.as_mut_ptr(), 64, 0), hipSuccess);
        assert_eq!(CStr::from_ptr(name.as_ptr()), c"gfx1103 emulated on the CPU");
        assert_eq!((hip.hipDeviceGetName)(name.as_mut_ptr(), 5, 0), hipSuccess);
        assert_eq!(CStr::from_ptr(name.as_ptr()), c"gfx1");
        assert_eq!((hip.hipDeviceGetName)(name.as_mut_ptr(), 64, 1), hipErrorInvalidDevice);
        assert_eq!((hip.hipDeviceGetPCIBusId)(bus.as_mut_ptr(), 16, 0), hipSuccess);
        assert_eq!(CStr::from_ptr(bus.as_ptr()), c"0000:00:00.0");
    }
    assert_eq!(count, 1);
    assert_eq!(hip.version(), Version { major: 6, minor: 2, patch: 0 });
    assert_eq!(hip.architecture(0), Ok(Some("gfx1103".to_owned())));
    assert_eq!(hip.architecture(1).expect_err("no such device").code, hipErrorInvalidDevice);
}

#[test]
fn attributes_are_answered() {
    let Device { hip, .. } = Device::new();
    for (attribute, number) in [
        (hipDeviceAttributeWarpSize, Some(32)),
        (hipDeviceAttributeIntegrated, Some(1)),
        (hipDeviceAttributeMaxSharedMemoryPerBlock, Some(65536)),
        (hipDeviceAttributeComputeCapabilityMajor, Some(11)),
        (-1, None),
    ] {
        let mut value: c_int = -7;
        // SAFETY: the place lives as long as the call.
        let code = unsafe { (hip.hipDeviceGetAttribute)(&raw mut value, attribute, 0) };
        assert_eq!((code == hipSuccess).then_some(value), number, "{attribute}");
    }
}

#[test]
fn errors_have_words_and_are_remembered() {
    let device = Device::new();
    // SAFETY: null is refused.
    let code = unsafe { (device.hip.hipGetDeviceCount)(ptr::null_mut()) };
    device.fails(code, hipErrorInvalidValue, "hipGetDeviceCount: no place");
    let error = device.hip.check(code).expect_err("an error");
    assert_eq!(error.to_string(), "hipErrorInvalidValue (1): invalid value");
    // SAFETY: they have no conditions.
    let remembered = unsafe {
        [(device.hip.hipPeekAtLastError)(), (device.hip.hipGetLastError)(), (device.hip.hipGetLastError)()]
    };
    assert_eq!(remembered, [hipErrorInvalidValue, hipErrorInvalidValue, hipSuccess]);
}

#[test]
fn memory_has_a_budget() {
    let device = Device::new();
    device.library.set("memory=1000").expect("settings");
    let (mut free, mut total, mut place) = (0, 0, ptr::null_mut());
    let first = device.allocate(900);
    // SAFETY: the places live as long as the calls.
    unsafe {
        device.ok((device.hip.hipMemGetInfo)(&raw mut free, &raw mut total));
        assert_eq!((free, total), (100, 1000));
        device.fails((device.hip.hipMalloc)(&raw mut place, 101), hipErrorOutOfMemory, "100 of 1000 free");
        device.fails((device.hip.hipHostMalloc)(&raw mut place, 101, 0), hipErrorOutOfMemory, "101 bytes");
        device.fails((device.hip.hipMallocManaged)(&raw mut place, 101, 1), hipErrorOutOfMemory, "101 bytes");
    }
    device.free(first);
    assert_eq!((device.library.count("allocations"), device.library.count("bytes")), (Some(0), Some(0)));
    device.free(device.allocate(1000));
    device.free(ptr::null_mut());
}

#[test]
fn misuse_of_memory_is_refused() {
    let device = Device::new();
    let (place, values) = (device.allocate(16), [1.0_f32; 8]);
    let inside = place.wrapping_byte_add(4);
    let from = values.as_ptr().cast::<c_void>();
    // SAFETY: what is wrong is refused before it is touched.
    unsafe {
        let (copy, fill, free) = (device.hip.hipMemcpy, device.hip.hipMemset, device.hip.hipFree);
        device.fails(
            copy(place, from, 17, hipMemcpyHostToDevice),
            hipErrorInvalidValue,
            "17 bytes from 0 on",
        );
        device.fails(
            copy(inside, from, 13, hipMemcpyHostToDevice),
            hipErrorInvalidValue,
            "13 bytes from 4 on",
        );
        device.fails(copy(place, from, 4, hipMemcpyDeviceToHost), hipErrorInvalidValue, "another kind");
        device.fails(copy(place, from, 4, hipMemcpyDeviceToDevice), hipErrorInvalidValue, "another kind");
        device.fails(copy(place, from, 4, 9), hipErrorInvalidMemcpyDirection, "9 is no direction");
        device.fails(copy(place, ptr::null(), 4, hipMemcpyHostToDevice), hipErrorInvalidValue, "null");
        device.ok(copy(place, from, 0, hipMemcpyHostToDevice));
        device.fails(fill(place, 0, 17), hipErrorInvalidValue, "17 bytes");
        device.fails(fill(from.cast_mut(), 0, 4), hipErrorInvalidValue, "no memory");
        device.fails(free(inside), hipErrorInvalidValue, "not allocated");
        device.fails((device.hip.hipHostFree)(place), hipErrorInvalidValue, "allocated as Device");
        device.ok(free(place));
        device.fails(free(place), hipErrorInvalidValue, "freed already");
    }
}

#[test]
fn new_memory_holds_no_zeros_and_is_filled() {
    let device = Device::new();
    let place = device.allocate(16);
    assert!(device.read(place, 4).iter().all(|value| value.is_nan()));
    // SAFETY: the memory has so many bytes.
    unsafe {
        device.ok((device.hip.hipMemsetD32Async)(place, 2.5_f32.to_bits() as c_int, 3, ptr::null_mut()));
        device.ok((device.hip.hipMemsetAsync)(place.wrapping_byte_add(12), 0x141, 4, ptr::null_mut()));
    }
    // A byte is what counts of a number.
    assert_eq!(device.read(place, 4), [2.5, 2.5, 2.5, f32::from_bits(0x4141_4141)]);
}

#[test]
fn memory_of_the_host_is_used_in_place() {
    let device = Device::new();
    let mut values = vec![1.0_f32, 2.0];
    let start = values.as_mut_ptr().cast::<c_void>();
    let (mut place, mut pinned) = (ptr::null_mut(), ptr::null_mut());
    // SAFETY: the places and the values live as long as the calls.
    unsafe {
        let (register, address) = (device.hip.hipHostRegister, device.hip.hipHostGetDevicePointer);
        device.fails(address(&raw mut place, start, 0), hipErrorInvalidValue, "no memory of the host");
        device.ok(register(start, 8, hipHostRegisterMapped));
        device.fails(
            register(start, 8, hipHostRegisterMapped),
            hipErrorHostMemoryAlreadyRegistered,
            "known already",
        );
        device.ok(address(&raw mut place, start.wrapping_byte_add(4), 0));
        device.write(place, &[7.0]);
        device.ok((device.hip.hipHostUnregister)(start));
        device.fails(
            (device.hip.hipHostUnregister)(start),
            hipErrorHostMemoryNotRegistered,
            "not registered",
        );
        assert_eq!(values, [1.0, 7.0]);

        device.ok((device.hip.hipHostMalloc)(
            &raw mut pinned,
            8,
            hipHostMallocMapped | hipHostMallocCoherent,
        ));
        device.fails((device.hip.hipHostMalloc)(&raw mut place, 8, 0x100), hipErrorInvalidValue, "flags");
        device.ok(address(&raw mut place, pinned, 0));
        pinned.cast::<f32>().write(3.0);
        assert_eq!(device.read(place, 1), [3.0]);
        device.fails((device.hip.hipFree)(pinned), hipErrorInvalidValue, "allocated as Host");
        device.ok((device.hip.hipHostFree)(pinned));
    }
}

#[test]
fn memory_of_a_stream_goes_with_its_work() {
    let device = Device::new();
    let (stream, mut place) = (device.stream(hipStreamNonBlocking), ptr::null_mut());
    let (allocate, free) =
        (device.hip.hipMallocAsync.expect("function"), device.hip.hipFreeAsync.expect("function"));
    // SAFETY: the places live as long as the calls.
    unsafe {
        device.ok(allocate(&raw mut place, 64, stream));
        device.ok(free(place, stream));
        assert_eq!(device.library.count("allocations"), Some(1));
        device.ok(device.wait(stream));
        assert_eq!(device.library.count("allocations"), Some(0));
        device.fails(free(place, stream), hipErrorInvalidValue, "no memory of the device");
    }
}

#[test]
fn a_library_without_a_function_is_refused_or_says_so() {
    let library = StandIn::install_without(&folder(), &["hipGraphLaunch"]).expect("library");
    let error = Hip::open(library.path()).expect_err("incomplete");
    assert!(matches!(error, LoadError::MissingFunction { function: "hipGraphLaunch", .. }), "{error}");

    let optional = ["hipGetDevicePropertiesR0600", "hipMallocAsync"];
    let library = StandIn::install_without(&folder(), &optional).expect("library");
    let hip = Hip::open(library.path()).expect("runtime");
    assert!(hip.hipMallocAsync.is_none() && hip.hipFreeAsync.is_some());
    assert_eq!(hip.architecture(0).expect_err("no properties").code, hipErrorNotFound);

    assert!(StandIn::install_without(&folder(), &["hipNoSuchFunction"]).is_err());
}

#[test]
fn settings_are_checked() {
    let device = Device::new();
    let error = device.library.set("memory=5;colour=red").expect_err("no setting");
    assert_eq!(error.to_string(), "colour=red is no setting");
    assert_eq!(device.library.count("colours"), None);
}
