//! Decoding of scalar instructions: SOP1, SOP2, SOPC, SOPK, SOPP, SMEM.

use super::{Decoded, Parts, Reader, bits, known, refuse, single};
use crate::instruction::{Body, Control, Operand, ScalarBody, When, scalar};
use crate::operations::scalar::{COMPARE, CONSTANT, Scalar, TWO, find};
use crate::operations::scalar_one::{EXEC, ONE};

/// Instructions of SOPP that do nothing that can be seen here: (number, mnemonic).
const SILENT: [(u32, &str); 13] = [
    (0x00, "s_nop"),
    (0x03, "s_sleep"),
    (0x04, "s_set_inst_prefetch_distance"),
    (0x05, "s_clause"),
    (0x07, "s_delay_alu"),
    (0x08, "s_waitcnt_depctr"),
    (0x0a, "s_wait_idle"),
    (0x0b, "s_wait_event"),
    (0x1f, "s_code_end"),
    (0x35, "s_setprio"),
    (0x38, "s_incperflevel"),
    (0x39, "s_decperflevel"),
    (0x3c, "s_icache_inv"),
];

/// Branches: (number, mnemonic, condition).
const BRANCHES: [(u32, &str, When); 7] = [
    (0x20, "s_branch", When::Always),
    (0x21, "s_cbranch_scc0", When::Condition(false)),
    (0x22, "s_cbranch_scc1", When::Condition(true)),
    (0x23, "s_cbranch_vccz", When::Vcc(false)),
    (0x24, "s_cbranch_vccnz", When::Vcc(true)),
    (0x25, "s_cbranch_execz", When::Exec(false)),
    (0x26, "s_cbranch_execnz", When::Exec(true)),
];

/// Messages that a wave may send before it ends: that its registers may be given away.
const RELEASE_REGISTERS: u32 = 3;
/// The hardware register with rounding and denormals.
const MODE: u32 = 1;
/// A count that nothing waits for.
const ANY: u32 = u32::MAX;

impl Reader<'_> {
    pub(super) fn scalar_two(&mut self, word: u32) -> Decoded<Parts> {
        let operation = known(find(TWO, bits(word, 23, 7)))?;
        self.scalar(operation, bits(word, 16, 7), [bits(word, 0, 8), bits(word, 8, 8)])
    }

    pub(super) fn scalar_compare(&mut self, word: u32) -> Decoded<Parts> {
        let operation = known(find(COMPARE, bits(word, 16, 7)))?;
        self.scalar(operation, u32::from(scalar::NULL), [bits(word, 0, 8), bits(word, 8, 8)])
    }

    fn scalar(&mut self, operation: &'static Scalar, destination: u32, codes: [u32; 2]) -> Decoded<Parts> {
        let [result, a, b] = operation.widths;
        let sign_extended = operation.name.ends_with("i64");
        let sources = [
            self.scalar_source(codes[0], a, sign_extended)?,
            self.scalar_source(codes[1], b, sign_extended)?,
        ];
        let destination = destination as u8;
        if operation.reads_destination {
            self.reads_scalar(destination, result)?;
        }
        self.writes_scalar(destination, result)?;
        Ok((single(operation.name), Body::Scalar(ScalarBody { operation, destination, sources })))
    }

    pub(super) fn scalar_one(&mut self, word: u32) -> Decoded<Parts> {
        let (opcode, destination, source) = (bits(word, 8, 8), bits(word, 16, 7), bits(word, 0, 8));
        if let Some(operation) = find(ONE, opcode) {
            return self.scalar(operation, destination, [source, 128]);
        }
        let destination = destination as u8;
        if let Some((_, name, run, old)) = EXEC.iter().find(|row| row.0 == opcode) {
            let source = self.scalar_source(source, 1, false)?;
            self.reads_scalar(scalar::EXEC, 1)?;
            self.writes_scalar(destination, 1)?;
            return Ok((single(name), Body::Masking { run: *run, source, destination, old: *old }));
        }
        let (name, control) = match opcode {
            0x47 => {
                self.writes_scalar(destination, 2)?;
                ("s_getpc_b64", Control::GetAddress(destination))
            }
            0x48 | 0x49 if source < 127 => {
                self.reads_scalar(source as u8, 2)?;
                let link = (opcode == 0x49).then_some(destination);
                link.map_or(Ok(()), |link| self.writes_scalar(link, 2))?;
                let name = if opcode == 0x49 { "s_swappc_b64" } else { "s_setpc_b64" };
                (name, Control::Jump { target: source as u8, link })
            }
            _ => return known(None),
        };
        Ok((single(name), Body::Control(control)))
    }

    pub(super) fn scalar_constant(&mut self, word: u32) -> Decoded<Parts> {
        let (opcode, register) = (bits(word, 23, 5), bits(word, 16, 7) as u8);
        let constant = word as i16;
        if let Some(operation) = find(CONSTANT, opcode) {
            let value = Operand::Constant(u64::from(i32::from(constant) as u32));
            let [result, source, _] = operation.widths;
            let a = self.scalar_source(u32::from(register), source, false)?;
            if operation.reads_destination {
                self.reads_scalar(register, 1)?;
            }
            self.writes_scalar(register, result)?;
            let body = ScalarBody { operation, destination: register, sources: [a, value] };
            return Ok((single(operation.name), Body::Scalar(body)));
        }
        let (name, control) = match opcode {
            0x11..=0x13 => return self.mode(opcode, register, word),
            0x14 => {
                self.writes_scalar(register, 2)?;
                ("s_call_b64", Control::Call { target: self.target(constant), link: register })
            }
            0x18..=0x1b if register == scalar::NULL => wait_for(opcode, u32::from(constant as u16)),
            _ => return known(None),
        };
        Ok((single(name), Body::Control(control)))
    }

    /// Reads and writes of a hardware register; only the mode is one that is kept here.
    fn mode(&mut self, opcode: u32, register: u8, word: u32) -> Decoded<Parts> {
        let (id, offset, width) = (bits(word, 0, 6), bits(word, 6, 5) as u8, bits(word, 11, 5) as u8 + 1);
        if id != MODE {
            return refuse(format!("hardware register {id}"));
        }
        let (name, control) = match opcode {
            0x11 => {
                self.writes_scalar(register, 1)?;
                ("s_getreg_b32", Control::GetMode(register, offset, width))
            }
            0x12 => {
                self.reads_scalar(register, 1)?;
                ("s_setreg_b32", Control::SetMode(Operand::Scalar(register), offset, width))
            }
            _ => {
                let value = Operand::Constant(u64::from(self.next()?));
                ("s_setreg_imm32_b32", Control::SetMode(value, offset, width))
            }
        };
        Ok((single(name), Body::Control(control)))
    }

    pub(super) fn program(&mut self, word: u32) -> Decoded<Parts> {
        let (opcode, constant) = (bits(word, 16, 7), bits(word, 0, 16));
        if let Some((_, name)) = SILENT.iter().find(|row| row.0 == opcode) {
            return Ok((single(name), Body::Control(Control::Nothing)));
        }
        if let Some((_, name, when)) = BRANCHES.iter().find(|row| row.0 == opcode) {
            match when {
                When::Vcc(_) => self.reads_scalar(scalar::VCC, 1)?,
                When::Exec(_) => self.reads_scalar(scalar::EXEC, 1)?,
                _ => {}
            }
            let target = self.target(constant as u16 as i16);
            return Ok((single(name), Body::Control(Control::Branch(*when, target))));
        }
        let (name, control) = match opcode {
            0x09 => {
                let (loads, shares) = (bits(constant, 10, 6), bits(constant, 4, 6));
                let any = |count: u32| if count == 63 { ANY } else { count };
                ("s_waitcnt", Control::Wait { loads: any(loads), shares: any(shares), stores: ANY })
            }
            0x11 if constant.trailing_zeros() >= 4 => ("s_round_mode", Control::Nothing),
            0x11 => return refuse("a rounding other than to the nearest even number"),
            0x12 => ("s_denorm_mode", Control::Denormals(bits(constant, 0, 4) as u8)),
            0x30 => ("s_endpgm", Control::End),
            0x36 if bits(constant, 0, 8) == RELEASE_REGISTERS => ("s_sendmsg", Control::Nothing),
            0x36 => return refuse(format!("message {constant}")),
            0x3d => ("s_barrier", Control::Barrier),
            _ => return known(None),
        };
        Ok((single(name), Body::Control(control)))
    }

    /// The address that a branch of so many words reaches.
    fn target(&self, words: i16) -> u64 {
        self.after().wrapping_add_signed(4 * i64::from(words))
    }

    pub(super) fn scalar_memory(&mut self, word: u32) -> Decoded<Parts> {
        let (opcode, second) = (bits(word, 18, 8), self.next()?);
        if let 0x20 | 0x21 = opcode {
            let name = if opcode == 0x20 { "s_gl1_inv" } else { "s_dcache_inv" };
            return Ok((single(name), Body::Control(Control::Nothing)));
        }
        let names = ["s_load_b32", "s_load_b64", "s_load_b128", "s_load_b256", "s_load_b512"];
        let name = *known(names.get(opcode as usize))?;
        let (base, destination) = (bits(word, 0, 6) as u8 * 2, bits(word, 6, 7) as u8);
        let offset = (second << 11) as i32 >> 11;
        let index = bits(second, 25, 7) as u8;
        let count = 1 << opcode;
        self.reads_scalar(base, 2)?;
        self.reads_scalar(index, 1)?;
        self.writes_scalar(destination, count)?;
        let index = (index != scalar::NULL).then_some(index);
        Ok((single(name), Body::ScalarLoad { base, offset, index, destination, count }))
    }
}

/// A wait for one of the counters, by its instruction.
fn wait_for(opcode: u32, count: u32) -> (&'static str, Control) {
    let (loads, shares, stores) = (ANY, ANY, ANY);
    match opcode {
        0x18 => ("s_waitcnt_vscnt", Control::Wait { loads, shares, stores: count }),
        0x19 => ("s_waitcnt_vmcnt", Control::Wait { loads: count, shares, stores }),
        0x1a => ("s_waitcnt_expcnt", Control::Nothing),
        _ => ("s_waitcnt_lgkmcnt", Control::Wait { loads, shares: count, stores }),
    }
}
