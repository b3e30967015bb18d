//! speed
fn main() {
    let path = std::env::args().nth(1).unwrap();
    let object = gemma_rdna3::CodeObject::parse(&std::fs::read(&path).unwrap()).unwrap();
    let mut memory = gemma_rdna3::Memory::new();
    let size = 256;
    for (name, block, grid) in [("product", 256, [size / 16, size / 16, 1u32])] {
        let kernel = object.kernel(name).unwrap();
        let a = memory.allocate(size as usize * size as usize * 4);
        let mut args = Vec::new();
        for _ in 0..3 {
            args.extend(a.to_le_bytes());
        }
        args.extend(size.to_le_bytes());
        args.resize(kernel.argument_bytes(), 0);
        let start = std::time::Instant::now();
        let report = gemma_rdna3::launch(
            &object,
            kernel,
            grid,
            [block, 1, 1],
            &args,
            &mut memory,
            &Default::default(),
        )
        .unwrap();
        let t = start.elapsed().as_secs_f64();
        println!("{name} {} instr {t:.3} s {:.2} M/s", report.executed(), report.executed() as f64 / t / 1e6);
        println!("{:?}", report.mnemonics());
    }
}
