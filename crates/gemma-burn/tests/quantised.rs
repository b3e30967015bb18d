//! Quantised layers over Burn tensors on a GPU, against sums in f64 over the decoded weights.

#[path = "../../gemma-igpu/tests/common/mod.rs"]
mod vulkan;

use burn::tensor::{Device, Tensor, TensorData};
use gemma_burn::{LinearError, QuantisedLinear, burn_device};
use gemma_hal::block::{dequantise_row, quantise_row};
use gemma_hal::conformance::{Bounds, nmse};
use gemma_hal::random::SplitMix64;
use gemma_hal::{DType, DeviceError, Storage, Weight};
use gemma_igpu::{Activations, IgpuDevice};

const OUTPUTS: usize = 70;
const INPUTS: usize = 512;

/// What activations rounded to 8 bits may add, as in the suite of the Vulkan backend.
const ROUNDED: f64 = 1e-3;

/// Values from −1 to 1, the same for the same seed.
fn values(count: usize, seed: u64) -> Vec<f32> {
    let mut random = SplitMix64::new(seed);
    (0..count).map(|_| 2.0 * random.next_unit() - 1.0).collect()
}

fn weight(dtype: DType, seed: u64) -> Weight {
    let bytes: Vec<u8> =
        values(OUTPUTS * INPUTS, seed).chunks(INPUTS).flat_map(|row| quantise_row(dtype, row)).collect();
    Weight::new(Storage::new("test", bytes), 0, OUTPUTS, INPUTS, dtype).unwrap()
}

/// `weight · x` for each row `x` of `input`.
fn expected(weight: &Weight, input: &[f32]) -> Vec<f32> {
    let mut row = vec![0.0; INPUTS];
    let mut out = vec![0.0; input.len() / INPUTS * OUTPUTS];
    for r in 0..OUTPUTS {
        dequantise_row(weight.dtype(), weight.row(r), &mut row);
        for (t, x) in input.chunks(INPUTS).enumerate() {
            out[t * OUTPUTS + r] =
                row.iter().zip(x).map(|(w, x)| f64::from(*w) * f64::from(*x)).sum::<f64>() as f32;
        }
    }
    out
}

fn tensor(values: Vec<f32>, device: &Device) -> Tensor<2> {
    let rows = values.len() / INPUTS;
    Tensor::from_data(TensorData::new(values, [rows, INPUTS]), device)
}

fn read<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().try_to_vec().unwrap()
}

fn assert_close(what: &str, found: &[f32], expected: &[f32], bound: f64) {
    let error = nmse(found, expected);
    // Written so that NaN fails.
    assert!(error <= bound, "{what}: error {error:.1e}, at most {bound:.1e}");
}

#[test]
fn every_type_gives_the_products_of_its_decoded_values() {
    let gpu = vulkan::device();
    let device = burn_device(&gpu);
    for dtype in DType::ALL {
        let weight = weight(dtype, 1);
        let layer = QuantisedLinear::new(&gpu, "weight", &weight).unwrap();
        // Few rows and many are multiplied by different kernels.
        for rows in [1, 3, 19] {
            let x = values(rows * INPUTS, 2);
            let y = layer.forward(tensor(x.clone(), &device));
            assert_eq!(y.dims(), [rows, OUTPUTS]);
            assert_close(
                &format!("{dtype}, {rows} rows"),
                &read(y),
                &expected(&weight, &x),
                Bounds::F32.blocks,
            );
        }
    }
}

#[test]
fn rounded_activations_stay_within_their_bound() {
    let gpu = vulkan::device_with(Activations::Rounded);
    let (device, weight) = (burn_device(&gpu), weight(DType::Q4_0, 3));
    let layer = QuantisedLinear::new(&gpu, "weight", &weight).unwrap();
    let x = values(INPUTS, 4);
    let y = read(layer.forward(tensor(x.clone(), &device)));
    assert_close("rounded", &y, &expected(&weight, &x), ROUNDED);
}

#[test]
fn shapes_and_layouts_of_burn_are_taken() {
    let gpu = vulkan::device();
    let (device, weight) = (burn_device(&gpu), weight(DType::Q8_0, 5));
    let layer = QuantisedLinear::new(&gpu, "weight", &weight).unwrap();
    let x = values(6 * INPUTS, 6);
    let product = expected(&weight, &x);

    let batched = layer.forward(tensor(x.clone(), &device).reshape([2, 3, INPUTS]));
    assert_eq!(batched.dims(), [2, 3, OUTPUTS]);
    assert_close("three dimensions", &read(batched), &product, Bounds::F32.blocks);

    let columns: Vec<f32> = (0..6 * INPUTS).map(|i| x[i % 6 * INPUTS + i / 6]).collect();
    let columns = Tensor::<2>::from_data(TensorData::new(columns, [INPUTS, 6]), &device);
    assert_close("transposed", &read(layer.forward(columns.transpose())), &product, Bounds::F32.blocks);

    let last = layer.forward(tensor(x.clone(), &device).narrow(0, 4, 2));
    assert_close("the last rows", &read(last), &product[4 * OUTPUTS..], Bounds::F32.blocks);

    let one = layer.forward(tensor(x[..INPUTS].to_vec(), &device).squeeze_dim::<1>(0));
    assert_close("one dimension", &read(one), &product[..OUTPUTS], Bounds::F32.blocks);
}

#[test]
fn work_of_burn_before_and_after_keeps_its_order() {
    let gpu = vulkan::device();
    let (device, weight) = (burn_device(&gpu), weight(DType::Q4K, 7));
    let layer = QuantisedLinear::new(&gpu, "weight", &weight).unwrap();
    let start = values(2 * INPUTS, 8);
    let mut x = tensor(start.clone(), &device);
    let mut wanted = start;
    let mut outputs = Vec::new();
    for step in 0..20 {
        // Burn may add in place, in the very memory that the product before has been told to read.
        x = x + 0.25;
        wanted.iter_mut().for_each(|value| *value += 0.25);
        let y = layer.forward(x.clone()) * 2.0;
        outputs.push((step, y, wanted.clone()));
    }
    for (step, y, x) in outputs {
        let product: Vec<f32> = expected(&weight, &x).iter().map(|value| value * 2.0).collect();
        assert_close(&format!("step {step}"), &read(y), &product, Bounds::F32.blocks);
    }
}

#[test]
fn tensors_go_from_thread_to_thread() {
    let gpu = vulkan::device();
    let (device, weight) = (burn_device(&gpu), weight(DType::Q6K, 9));
    let layer = QuantisedLinear::new(&gpu, "weight", &weight).unwrap();
    let x = values(INPUTS, 10);
    let product = expected(&weight, &x);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            let (layer, made) = (layer.clone(), tensor(x.clone(), &device) * 3.0);
            let product = &product;
            scope.spawn(move || {
                let y = layer.forward(made / 3.0);
                let read = std::thread::spawn(move || read(y)).join().unwrap();
                assert_close("made, multiplied and read elsewhere", &read, product, Bounds::F32.blocks);
            });
        }
    });
}

#[test]
fn what_cannot_be_multiplied_is_refused() {
    let gpu = vulkan::device();
    let device = burn_device(&gpu);
    let layer = QuantisedLinear::new(&gpu, "weight", &weight(DType::Q8_0, 11)).unwrap();
    let narrow = layer.try_forward(Tensor::<2>::zeros([2, INPUTS - 8], &device)).unwrap_err();
    assert_eq!(narrow, LinearError::Width { found: INPUTS - 8, inputs: INPUTS });
    let elsewhere = layer.try_forward(Tensor::<2>::zeros([2, INPUTS], &Device::flex())).unwrap_err();
    assert!(matches!(elsewhere, LinearError::Backend(_)), "{elsewhere}");
    let long = layer.try_forward(Tensor::<2>::zeros([32_769, INPUTS], &device)).unwrap_err();
    assert!(matches!(&long, LinearError::Device(DeviceError::InvalidCall { .. })), "{long}");
    let odd = Weight::new(Storage::new("odd", vec![0_u8; 48]), 0, 1, 12, DType::F32).unwrap();
    let refused = QuantisedLinear::new(&gpu, "odd", &odd).unwrap_err();
    assert!(matches!(refused, DeviceError::Unsupported { .. }), "{refused}");
}

#[test]
fn layers_count_against_the_device_s_memory_and_share_it() {
    use gemma_hal::Device as _;
    let gpu: IgpuDevice = vulkan::device();
    let weight = weight(DType::Q8_0, 12);
    let before = gpu.memory().used;
    let layer = QuantisedLinear::new(&gpu, "weight", &weight).unwrap();
    let with_one = gpu.memory().used;
    assert!(with_one >= before + weight.bytes(), "{before} then {with_one}");
    let again = QuantisedLinear::new(&gpu, "weight", &weight).unwrap();
    assert_eq!(gpu.memory().used, with_one);
    drop((layer, again));
    assert_eq!(gpu.memory().used, before);
}
