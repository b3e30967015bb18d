//! The check that a plan passes once, so that no backend has to ask again: shapes, rows, order of use.

use crate::op::{Access, BufferId, Heads, Op, Router, WeightId};
use crate::plan::{Outputs, Plan, Rows};

/// What is wrong with a plan. Model code builds plans, so this tells a programmer, not a user.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// Two sizes that must be equal are not.
    #[error("step {step} ({op}): {what} is {found}, expected {expected}")]
    Shape {
        /// Index of the operation.
        step: usize,
        /// Its name.
        op: &'static str,
        /// The buffer, weight or field.
        what: String,
        /// What it is.
        found: usize,
        /// What it must be.
        expected: usize,
    },
    /// A buffer is read before anything was written to it, or used twice in one operation, or has the wrong rows.
    #[error("step {step} ({op}): buffer {buffer} {problem}")]
    Use {
        /// Index of the operation.
        step: usize,
        /// Its name.
        op: &'static str,
        /// Name of the buffer.
        buffer: String,
        /// What is wrong.
        problem: &'static str,
    },
    /// A field has a value that no backend could run.
    #[error("step {step} ({op}): {problem}")]
    Field {
        /// Index of the operation.
        step: usize,
        /// Its name.
        op: &'static str,
        /// What is wrong.
        problem: &'static str,
    },
    /// The plan as a whole is unusable.
    #[error("plan: {0}")]
    Plan(&'static str),
}

/// Checks `plan`.
pub(crate) fn check(plan: &Plan) -> Result<(), PlanError> {
    if plan.max_tokens == 0 {
        return Err(PlanError::Plan("runs of no tokens"));
    }
    outputs(plan)?;
    let mut written = vec![false; plan.buffers.len()];
    let mut cached = vec![false; plan.cache.layers.len()];
    for (index, step) in plan.steps.iter().enumerate() {
        let at = At { plan, step: index, op: &step.op };
        at.uses(&mut written)?;
        at.shapes()?;
        at.cache_use(&mut cached)?;
    }
    match plan.output {
        Some(id) if !written[id.index()] => Err(PlanError::Plan("the output buffer is never written")),
        _ => Ok(()),
    }
}

/// What the plan says that it gives back.
fn outputs(plan: &Plan) -> Result<(), PlanError> {
    match (plan.outputs, plan.output) {
        (Outputs::None, Some(_)) => Err(PlanError::Plan("wants no outputs but names an output buffer")),
        (Outputs::Last | Outputs::All, None) => {
            Err(PlanError::Plan("wants outputs but names no output buffer"))
        }
        (Outputs::Last, Some(id)) if plan.max_tokens > 1 && plan.buffer(id).rows == Rows::Tokens => {
            Err(PlanError::Plan("wants the last row but the output buffer has one a token"))
        }
        _ => Ok(()),
    }
}

struct At<'a> {
    plan: &'a Plan,
    step: usize,
    op: &'a Op,
}

impl At<'_> {
    fn uses(&self, written: &mut [bool]) -> Result<(), PlanError> {
        let mut seen: Vec<BufferId> = Vec::new();
        let mut problem = None;
        let rows = self.plan.op_rows(self.op);
        self.op.buffers(&mut |id, access| {
            let expected = match (self.op, access) {
                (Op::SelectOutputs { .. }, Access::Read) => Rows::Tokens,
                (Op::SelectOutputs { .. }, _) => Rows::Outputs,
                _ => rows,
            };
            let wrong = if seen.contains(&id) {
                Some("is used twice")
            } else if access != Access::Write && !written[id.index()] {
                Some("is read before it is written")
            } else if self.plan.buffer(id).rows != expected {
                Some("has other rows than the operation")
            } else {
                None
            };
            problem = problem.or(wrong.map(|problem| (id, problem)));
            seen.push(id);
        });
        if let Some((id, problem)) = problem {
            let buffer = self.plan.buffer(id).name.clone();
            return Err(PlanError::Use { step: self.step, op: self.op.name(), buffer, problem });
        }
        seen.iter().for_each(|id| written[id.index()] = true);
        Ok(())
    }

    /// The run's own keys and values must be in a cache layer before it is read, also by layers that share it: every
    /// token sees itself. What earlier runs wrote is there already.
    fn cache_use(&self, cached: &mut [bool]) -> Result<(), PlanError> {
        match self.op {
            Op::Rotary { cache_layer, key_value: Some(_), .. } => cached[*cache_layer] = true,
            Op::Attention { cache_layer, .. } => {
                let problem = "the cache layer is read before the plan writes keys and values to it";
                self.require(cached[*cache_layer], problem)?;
            }
            _ => {}
        }
        Ok(())
    }

    fn shapes(&self) -> Result<(), PlanError> {
        match self.op {
            Op::Embed { table, output, .. } => self.columns(*table, self.width(*output)),
            Op::PerLayerEmbed { input, projection, table, norm, blocks, width, output, .. } => {
                self.columns(*projection, self.width(*input))?;
                let parent = self.plan.weight(*projection).rows();
                self.columns(*table, parent)?;
                self.shape(*norm, 1, *width)?;
                self.buffer(*output, blocks.len() * width)?;
                let last = blocks.iter().map(|block| (usize::from(*block) + 1) * width).max().unwrap_or(0);
                self.require(last <= parent && *width > 0, "a block lies outside of the projection")?;
                self.require(self.plan.weight(*table).rows() > 0, "the table has no rows")
            }
            Op::AltUpInit { input, projections, streams } => {
                let width = self.width(*input);
                self.buffer(*streams, width * (projections.len() + 1))?;
                projections.iter().try_for_each(|id| self.shape(*id, width, width))
            }
            Op::AltUpPredict { streams, active, router, coefficients, input_norm, normed } => {
                let (width, count) = (self.width(*normed), self.streams(*streams, *active, *normed)?);
                self.router(*router, count, width)?;
                self.shape(*coefficients, count * count, count)?;
                self.shape(*input_norm, 1, width)
            }
            Op::RmsNorm { input, norm, output } => {
                self.buffer(*output, self.width(*input))?;
                self.shape(*norm, 1, self.width(*input))
            }
            Op::AddNorm { input, post_norm, residual, next_norm, normed } => {
                let width = self.width(*residual);
                self.buffer(*input, width)?;
                self.buffer(*normed, width)?;
                [post_norm, next_norm].into_iter().try_for_each(|id| self.shape(*id, 1, width))
            }
            Op::Linear { input, parts } => {
                self.require(!parts.is_empty(), "a product without parts")?;
                parts
                    .iter()
                    .try_for_each(|part| self.shape(part.weight, self.width(part.output), self.width(*input)))
            }
            Op::Rotary { .. } | Op::Attention { .. } => self.attention_shapes(),
            _ => self.tail_shapes(),
        }
    }

    fn attention_shapes(&self) -> Result<(), PlanError> {
        match self.op {
            Op::Rotary { heads, theta, stretch, cache_layer, query, key_value } => {
                self.heads(*heads)?;
                self.require(theta.is_finite() && *theta > 0.0, "theta is not positive")?;
                self.require(stretch.is_finite() && *stretch > 0.0, "the stretch is not positive")?;
                self.require(query.is_some() || key_value.is_some(), "neither queries nor keys and values")?;
                if let Some(q) = query {
                    self.buffer(q.query, heads.query_width())?;
                    self.shape(q.norm, 1, heads.dim)?;
                    self.require(q.scale.is_finite() && q.scale > 0.0, "the query's scale is not positive")?;
                }
                if let Some(kv) = key_value {
                    self.buffer(kv.key, heads.key_value_width())?;
                    self.buffer(kv.value, heads.key_value_width())?;
                    self.shape(kv.norm, 1, heads.dim)?;
                    self.cache(*cache_layer, *heads)?;
                    // A token without keys and values would leave a hole in the cache.
                    let rows = self.plan.buffer(kv.key).rows;
                    self.require(rows == Rows::Tokens, "keys and values are not those of every token")?;
                }
                Ok(())
            }
            Op::Attention { heads, cache_layer, query, output } => {
                self.heads(*heads)?;
                self.cache(*cache_layer, *heads)?;
                self.buffer(*query, heads.query_width())?;
                self.buffer(*output, heads.query_width())
            }
            _ => Ok(()),
        }
    }

    /// The operations of the second half of a layer, and of the head.
    fn tail_shapes(&self) -> Result<(), PlanError> {
        match self.op {
            Op::AttentionResidual {
                streams,
                active,
                normed,
                attended,
                laurel,
                post_norm,
                laurel_norm,
                ffn_norm,
                residual,
                ffn_input,
            } => {
                let width = self.width(*normed);
                self.streams(*streams, *active, *normed)?;
                [attended, laurel, residual, ffn_input]
                    .into_iter()
                    .try_for_each(|id| self.buffer(*id, width))?;
                [post_norm, laurel_norm, ffn_norm].into_iter().try_for_each(|id| self.shape(*id, 1, width))
            }
            Op::FeedForward { input, gate, up, down, cutoff, gated, hidden, output } => {
                let (width, inner) = (self.width(*input), self.width(*hidden));
                self.shape(*gate, inner, width)?;
                self.shape(*up, inner, width)?;
                self.shape(*down, width, inner)?;
                self.buffer(*gated, inner)?;
                self.buffer(*output, width)?;
                self.require(cutoff.is_none_or(f32::is_finite), "the cutoff is not finite")
            }
            Op::AltUpCorrect { streams, active, residual, ffn, post_norm, router, coefficients } => {
                let (width, count) = (self.width(*residual), self.streams(*streams, *active, *residual)?);
                self.buffer(*ffn, width)?;
                self.shape(*post_norm, 1, width)?;
                self.router(*router, count, width)?;
                self.shape(*coefficients, count, count)
            }
            Op::PerLayerInput {
                streams,
                active,
                per_layer,
                block,
                scale,
                gate,
                projection,
                norm,
                scaled,
                gated,
            } => {
                let (width, inner) = (self.width(*scaled), self.width(*gated));
                self.streams(*streams, *active, *scaled)?;
                scale.iter().chain([norm]).try_for_each(|id| self.shape(*id, 1, width))?;
                self.shape(*gate, inner, width)?;
                self.shape(*projection, width, inner)?;
                self.require(
                    (block + 1) * inner <= self.width(*per_layer),
                    "the block lies outside of the embeddings",
                )
            }
            Op::SelectOutputs { input, output } => self.buffer(*output, self.width(*input)),
            Op::AltUpMerge { streams, projections, norm, projected, output } => {
                let width = self.width(*output);
                self.buffer(*streams, width * (projections.len() + 1))?;
                self.buffer(*projected, width * projections.len())?;
                self.shape(*norm, 1, width)?;
                projections.iter().try_for_each(|id| self.shape(*id, width, width))
            }
            Op::Unembed { input, table, softcap, output } => {
                let positive = |cap: f32| cap.is_finite() && cap > 0.0;
                self.require(softcap.is_none_or(positive), "the soft cap is not positive")?;
                self.shape(*table, self.width(*output), self.width(*input))
            }
            _ => Ok(()),
        }
    }

    fn width(&self, id: BufferId) -> usize {
        self.plan.buffer(id).width
    }

    fn equal(&self, what: impl FnOnce() -> String, found: usize, expected: usize) -> Result<(), PlanError> {
        if found == expected {
            return Ok(());
        }
        Err(PlanError::Shape { step: self.step, op: self.op.name(), what: what(), found, expected })
    }

    fn require(&self, holds: bool, problem: &'static str) -> Result<(), PlanError> {
        if holds { Ok(()) } else { Err(PlanError::Field { step: self.step, op: self.op.name(), problem }) }
    }

    fn buffer(&self, id: BufferId, width: usize) -> Result<(), PlanError> {
        self.equal(|| format!("width of {}", self.plan.buffer(id).name), self.width(id), width)
    }

    fn columns(&self, id: WeightId, columns: usize) -> Result<(), PlanError> {
        let named = &self.plan.weights[id.index()];
        self.equal(|| format!("columns of {}", named.name), named.weight.columns(), columns)
    }

    fn shape(&self, id: WeightId, rows: usize, columns: usize) -> Result<(), PlanError> {
        let named = &self.plan.weights[id.index()];
        self.equal(|| format!("rows of {}", named.name), named.weight.rows(), rows)?;
        self.columns(id, columns)
    }

    fn router(&self, router: Router, count: usize, width: usize) -> Result<(), PlanError> {
        self.shape(router.norm, 1, width)?;
        self.shape(router.weight, count, width)
    }

    /// Streams in `streams`, each as wide as `one`.
    fn streams(&self, streams: BufferId, active: usize, one: BufferId) -> Result<usize, PlanError> {
        let count = self.width(streams) / self.width(one).max(1);
        self.require(active < count, "the active stream does not exist")?;
        self.buffer(streams, count * self.width(one))?;
        Ok(count)
    }

    fn heads(&self, heads: Heads) -> Result<(), PlanError> {
        self.require(heads.dim > 0 && heads.dim.is_multiple_of(2), "the head's size is not even")?;
        self.require(
            heads.key_value > 0 && heads.query > 0 && heads.query.is_multiple_of(heads.key_value),
            "query heads are not a multiple of key/value heads",
        )
    }

    fn cache(&self, layer: usize, heads: Heads) -> Result<(), PlanError> {
        let Some(found) = self.plan.cache.layers.get(layer) else {
            return self.require(false, "the cache has no such layer");
        };
        self.equal(|| format!("width of cache layer {layer}"), found.width, heads.key_value_width())?;
        let whole = heads.dim.is_multiple_of(self.plan.cache.dtype.block_len());
        self.require(whole, "a head does not end on a block of the cache's type")
    }
}
