//! Kernels that no plan is made of, or none of the suite's: each against its definition.

use gemma_hal::conformance::nmse;
use gemma_hal::random::SplitMix64;
use gemma_hal::{DType, Storage, Weight, block, planes};
use gemma_hip_kernels::arguments::{
    ActivationHalf, ActivationRounded, Argmax, Gemm, Method, ShortlistBound, ShortlistCollect,
    ShortlistMaxima, SparseCut,
};
use gemma_hip_kernels::{Activations, Address, Planes};

use super::results::Results;
use super::{Bank, Runner};

/// Random numbers within ±1.
pub fn values(count: usize, seed: u64) -> Vec<f32> {
    let mut random = SplitMix64::new(seed);
    (0..count).map(|_| 2.0 * random.next_unit() - 1.0).collect()
}

/// Products of many rows through matrix units: tiles of both sizes in f16, and bytes.
pub fn products_through_matrix_units(runner: &mut dyn Runner, results: &mut Results) {
    for dtype in DType::ALL.into_iter().filter(|dtype| *dtype != DType::F32) {
        product_in(runner, results, dtype, Method::Half, 70, 1e-6);
        product_in(runner, results, dtype, Method::Half, 100, 1e-6);
        if dtype.block_len() > 1 {
            product_in(runner, results, dtype, Method::Int8, 70, 1e-10);
        }
    }
    assert_eq!(Method::of(DType::Q4_0, Activations::Rounded), Method::Half);
    assert_eq!(Method::of(DType::Q4_0, Activations::RoundedEverywhere), Method::Int8);
    assert_eq!(Method::of(DType::BF16, Activations::RoundedEverywhere), Method::Half);
}

/// A random product of `tokens` rows, within `bound` of its definition. With bytes that is one of rounded activations.
fn product_in(
    runner: &mut dyn Runner,
    results: &mut Results,
    dtype: DType,
    method: Method,
    tokens: usize,
    bound: f64,
) {
    // Rows of plain weights may end inside of what is staged at a time.
    let (rows, columns) = (150, if dtype.block_len() > 1 { 512 } else { 520 });
    let stored: Vec<u8> =
        values(rows * columns, 1).chunks(columns).flat_map(|row| block::quantise_row(dtype, row)).collect();
    let weight = Weight::new(Storage::new("weight", stored), 0, rows, columns, dtype).unwrap();
    let mut input = values(tokens * columns, 2);
    // Rows that f16 has no room for, and rows that it has no bits for.
    for (row, values) in input.chunks_mut(columns).enumerate() {
        let size = [1.0, 1e7, 1e-9][row % 3];
        values.iter_mut().for_each(|value| *value *= size);
    }
    let mut bank = Bank::default();
    let gemm = Gemm {
        weight: hold(&mut bank, &planes::pack(&weight, 0..rows)),
        input: bank.hold(&vec![0xff_u8; ActivationHalf::bytes(columns, tokens)]),
        blocks: bank.room(tokens * columns / 8),
        output: bank.room(tokens * rows),
        first: 0,
        rows: rows as u32,
        columns: columns as u32,
        tokens: tokens as u32,
        output_stride: rows as u32,
        input_stride: 0,
    };
    let (from, width) = (bank.hold(&input), columns as u32);
    let convert = if method == Method::Int8 {
        input.chunks_mut(32).for_each(round);
        ActivationRounded {
            input: from,
            quants: gemm.input,
            blocks: gemm.blocks,
            columns: width,
            input_stride: width,
        }
        .launch(tokens)
    } else {
        ActivationHalf {
            input: from,
            output: gemm.input,
            scales: gemm.blocks,
            columns: width,
            input_stride: width,
        }
        .launch(tokens)
    };
    runner.run(&convert, &mut bank).unwrap();
    let launch = gemm.launch(dtype, method);
    runner.run(&launch, &mut bank).unwrap();
    let mut row = vec![0.0; columns];
    let mut expected = vec![0.0; tokens * rows];
    for r in 0..rows {
        block::dequantise_row(dtype, weight.row(r), &mut row);
        for (t, x) in input.chunks(columns).enumerate() {
            let sum: f64 = row.iter().zip(x).map(|(w, x)| f64::from(*w) * f64::from(*x)).sum();
            expected[t * rows + r] = sum as f32;
        }
    }
    let found: Vec<f32> = bank.read(gemm.output);
    let rows = found.chunks(rows).zip(expected.chunks(rows)).map(|(found, expected)| nmse(found, expected));
    let error = rows.fold(0.0, f64::max);
    for launch in [&convert, &launch] {
        results.add(&launch.kernel, error);
    }
    assert!(error < bound, "{dtype}, {method:?}, {tokens} rows: {error:.1e}");
}

/// The planes of a packed weight.
fn hold(bank: &mut Bank, packed: &planes::Planes) -> Planes {
    let mut plane = |words: &[u32]| if words.is_empty() { Address::NULL } else { bank.hold(words) };
    Planes { words: plane(&packed.words), scales: plane(&packed.scales), high: plane(&packed.high) }
}

/// Rounds a block to 8 bits, to the nearest step, ties up.
fn round(values: &mut [f32]) {
    let largest = values.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
    for value in values {
        *value = (*value * (127.0 / largest) + 0.5).floor() * (largest / 127.0);
    }
}

/// Rows of every length that there is a kernel for: which units are left, in order, and their gates.
pub fn units_behind_a_cutoff(runner: &mut dyn Runner, results: &mut Results) {
    for width in [4, 1_004, 8_192, 12_000, 32_768] {
        let (all, cutoff) = (values(width, width as u64), 0.9_f32);
        let mean = all.iter().map(|x| f64::from(*x)).sum::<f64>() / width as f64;
        let squares = all.iter().map(|x| (f64::from(*x) - mean).powi(2)).sum::<f64>();
        let cut = (mean + f64::from(cutoff) * (squares / width as f64).sqrt()) as f32;
        let mut bank = Bank::default();
        let gated = bank.hold(&all);
        let (values, units) = (bank.room(width), bank.hold(&vec![7_u32; width]));
        let count = bank.hold(&[7_u32]);
        let launch = SparseCut { gated, values, units, count, width: width as u32, cutoff }.launch();
        runner.run(&launch, &mut bank).unwrap();
        // A value within rounding of the cut may be on either side.
        let is_clear = |unit: u32| (all[unit as usize] - cut).abs() > 1e-5;
        let expected: Vec<u32> =
            (0..).zip(&all).filter(|(unit, x)| **x > cut && is_clear(*unit)).map(|(unit, _)| unit).collect();
        let listed = bank.read::<u32>(count)[0] as usize;
        let found = &bank.read::<u32>(units)[..listed];
        assert!(found.is_sorted() && (width == 4 || listed > width / 50), "{listed} of {width}");
        assert_eq!(found.iter().copied().filter(|unit| is_clear(*unit)).collect::<Vec<_>>(), expected);
        assert!(bank.read::<f32>(gated).iter().all(|x| *x == 0.0));
        let gates: Vec<f32> = found.iter().map(|unit| gelu(all[*unit as usize] - cut)).collect();
        let error = if gates.is_empty() { 0.0 } else { nmse(&bank.read(values)[..listed], &gates) };
        results.add(&launch.kernel, error);
        assert!(error < 1e-9, "{width}: {error:.1e}");
    }
}

/// In its tanh form.
fn gelu(x: f32) -> f32 {
    let x = f64::from(x);
    (0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3))).tanh())) as f32
}

/// A row of logits with equal ones, both zeros, infinities, and where wanted no number.
fn logits(count: usize, with_nan: bool) -> Vec<f32> {
    let mut all: Vec<f32> = values(count, 9).iter().map(|x| (x * 40.0).round() / 2.0).collect();
    all[17] = f32::NEG_INFINITY;
    all[count - 3] = 30.0;
    all[count / 2] = 30.0;
    if with_nan {
        all[5] = f32::NAN;
    }
    all
}

/// The first of the largest ones, or what is no number.
pub fn the_largest_logit(runner: &mut dyn Runner, results: &mut Results) {
    for (count, with_nan) in [(40, false), (1000, false), (5001, false), (5001, true)] {
        let all = logits(count, with_nan);
        let mut bank = Bank::default();
        let (values, result) = (bank.hold(&all), bank.hold(&[7_u32; 2]));
        let argmax = Argmax { values, result, count: count as u32, padding: 0 };
        let launch = argmax.launch();
        runner.run(&launch, &mut bank).unwrap();
        let expected = if with_nan { 5 } else { count / 2 };
        assert_eq!(bank.read::<u32>(result), [expected as u32, all[expected].to_bits()]);
        results.add(&launch.kernel, 0.0);
    }
}

/// At least as many as are wanted.
pub fn a_list_of_the_largest_logits(runner: &mut dyn Runner, results: &mut Results) {
    let (count, wanted, room) = (20_000, 40, 1024);
    let all: Vec<f32> = values(count, 4).iter().map(|x| x * 20.0).collect();
    let groups = ShortlistMaxima::groups(count);
    let mut bank = Bank::default();
    let (values, maxima) = (bank.hold(&all), bank.hold(&vec![7_u32; groups]));
    let (counter, bound) = (bank.hold(&[7_u32]), bank.hold(&[7_u32]));
    let entries = bank.hold(&vec![7_u32; 2 * room]);
    let length = count as u32;
    let launches = [
        ShortlistMaxima { values, maxima, count: length, padding: 0 }.launch(),
        ShortlistBound { maxima, counter, bound, wanted: wanted as u32, count: groups as u32 }.launch(),
        ShortlistCollect { values, bound, counter, entries, count: length, room: room as u32 }.launch(),
    ];
    for launch in &launches {
        runner.run(launch, &mut bank).unwrap();
    }
    let listed = bank.read::<u32>(counter)[0] as usize;
    assert!((wanted..=room).contains(&listed), "{listed}");
    let words = bank.read::<u32>(entries);
    let mut found: Vec<(u32, u32)> = words.chunks(2).take(listed).map(|entry| (entry[0], entry[1])).collect();
    found.sort_by(|a, b| f32::from_bits(b.1).total_cmp(&f32::from_bits(a.1)));
    let mut order: Vec<usize> = (0..count).collect();
    order.sort_by(|a, b| all[*b].total_cmp(&all[*a]));
    let expected = order[..wanted].iter().map(|index| (*index as u32, all[*index].to_bits()));
    assert!(found[..wanted].iter().copied().eq(expected));
    launches.iter().for_each(|launch| results.add(&launch.kernel, 0.0));
}
