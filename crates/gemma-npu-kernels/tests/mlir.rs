//! The text of a design, line by line where lines differ in kind.

use gemma_npu_kernels::design::Dimension;
use gemma_npu_kernels::gemm::Gemm;
use gemma_npu_kernels::kernels::{Product, Shape};
use gemma_npu_kernels::mlir;

fn text() -> String {
    mlir::text(&Gemm::new(Product::I8, Shape::new(512, 256, 512)).design().unwrap())
}

#[test]
fn each_kind_of_line_is_as_the_compiler_reads_it() {
    let text = text();
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    for line in [
        "module {",
        "aie.device(npu1) {",
        "%tile_0_0 = aie.tile(0, 0)",
        "%tile_3_5 = aie.tile(3, 5)",
        "aie.objectfifo @a_to_memory_2(%tile_2_0, {%tile_2_1}, 2 : i32) : !aie.objectfifo<memref<4096xi8>>",
        "aie.objectfifo @a_to_cores_1(%tile_1_1 dimensionsToStream [<size = 16, stride = 256>, <size = 8, stride = 8>, \
         <size = 4, stride = 64>, <size = 8, stride = 1>], {%tile_0_3, %tile_1_3, %tile_2_3, %tile_3_3}, 2 : i32) : \
         !aie.objectfifo<memref<4096xi8>>",
        "aie.objectfifo @b_to_cores_1(%tile_1_1 dimensionsToStream [<size = 8, stride = 512>, <size = 8, stride = 8>, \
         <size = 8, stride = 64>, <size = 8, stride = 1>], {%tile_1_2, %tile_1_3, %tile_1_4, %tile_1_5}, 2 : i32) : \
         !aie.objectfifo<memref<4096xi8>>",
        "aie.objectfifo @c_from_core_3_1(%tile_3_3, {%tile_3_1}, 2 : i32) : !aie.objectfifo<memref<4096xi32>>",
        "aie.objectfifo @c_to_shim_3(%tile_3_1 dimensionsToStream [<size = 16, stride = 256>, <size = 4, stride = 8>, \
         <size = 8, stride = 32>, <size = 8, stride = 1>], {%tile_3_0}, 2 : i32) : !aie.objectfifo<memref<16384xi32>>",
        "aie.objectfifo.link [@b_to_memory_0] -> [@b_to_cores_0]([] [])",
        "aie.objectfifo.link [@c_from_core_0_0, @c_from_core_0_1, @c_from_core_0_2, @c_from_core_0_3] -> \
         [@c_to_shim_0]([0, 4096, 8192, 12288] [])",
        "func.func private @gemm_i8_i32(memref<4096xi8>, memref<4096xi8>, memref<4096xi32>) attributes \
         {link_with = \"gemm_i8_i32.o\"}",
        "aie.runtime_sequence(%a: memref<131072xi8>, %b: memref<131072xi8>, %c: memref<262144xi32>) {",
        "aiex.npu.dma_memcpy_nd(%c[0, 0, 0, 131136][1, 2, 256, 64][0, 256, 512, 1]) {metadata = @c_to_shim_1, id = 3 : i64, \
         issue_token = true} : memref<262144xi32>",
        "aiex.npu.dma_memcpy_nd(%a[0, 0, 0, 16384][2, 4, 64, 64][0, 64, 256, 1]) {metadata = @a_to_memory_1, id = 1 : i64} : \
         memref<131072xi8>",
        "aiex.npu.dma_memcpy_nd(%b[0, 0, 0, 192][2, 4, 64, 64][256, 32768, 512, 1]) {metadata = @b_to_memory_3, id = 5 : i64} : \
         memref<131072xi8>",
        "aiex.npu.dma_wait {symbol = @c_to_shim_0}",
    ] {
        assert!(lines.contains(&line), "{line}\nis not in\n{text}");
    }
}

#[test]
fn a_core_is_as_the_compiler_reads_it() {
    let core = "    aie.core(%tile_1_4) {
      %c0 = arith.constant 0 : index
      %c1 = arith.constant 1 : index
      %c4 = arith.constant 4 : index
      %c9223372036854775806 = arith.constant 9223372036854775806 : index
      scf.for %i1 = %c0 to %c9223372036854775806 step %c1 {
        %view2 = aie.objectfifo.acquire @c_from_core_1_2(Produce, 1) : !aie.objectfifosubview<memref<4096xi32>>
        %object2 = aie.objectfifo.subview.access %view2[0] : !aie.objectfifosubview<memref<4096xi32>> -> memref<4096xi32>
        func.call @zero_i32(%object2) : (memref<4096xi32>) -> ()
        scf.for %i3 = %c0 to %c4 step %c1 {
          %view4 = aie.objectfifo.acquire @a_to_cores_2(Consume, 1) : !aie.objectfifosubview<memref<4096xi8>>
          %object4 = aie.objectfifo.subview.access %view4[0] : !aie.objectfifosubview<memref<4096xi8>> -> memref<4096xi8>
          %view5 = aie.objectfifo.acquire @b_to_cores_1(Consume, 1) : !aie.objectfifosubview<memref<4096xi8>>
          %object5 = aie.objectfifo.subview.access %view5[0] : !aie.objectfifosubview<memref<4096xi8>> -> memref<4096xi8>
          func.call @gemm_i8_i32(%object4, %object5, %object2) : (memref<4096xi8>, memref<4096xi8>, memref<4096xi32>) -> ()
          aie.objectfifo.release @a_to_cores_2(Consume, 1)
          aie.objectfifo.release @b_to_cores_1(Consume, 1)
        }
        aie.objectfifo.release @c_from_core_1_2(Produce, 1)
      }
      aie.end
    } {stack_size = 3328 : i32}
";
    let text = text();
    assert!(text.contains(core), "{text}");
}

#[test]
fn an_order_at_a_consumer_stands_behind_its_tile() {
    let mut design = Gemm::new(Product::Bf16, Shape::new(256, 128, 128)).design().unwrap();
    let fifo = design.fifos.iter_mut().find(|fifo| fifo.name == "b_to_memory_1").unwrap();
    fifo.consumers[0].from_stream =
        vec![Dimension { size: 1024, stride: 2 }, Dimension { size: 2, stride: 1 }];
    let text = mlir::text(&design);
    let wanted = "@b_to_memory_1(%tile_1_0, {%tile_1_1 dimensionsFromStream [<size = 1024, stride = 2>, <size = 2, stride = 1>]}, 2 : i32)";
    assert!(text.contains(wanted), "{text}");
}
