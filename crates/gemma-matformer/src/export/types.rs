//! Which type each tensor gets: one for all, defaults by class, rules by name.

use gemma_hal::DType;
use regex::Regex;

/// What a tensor is for, as far as its type depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// Norms, scales and AltUp coefficients: f32 always.
    Small,
    /// The embedding, which is the output matrix too.
    Embedding,
    /// The table of per-layer embeddings.
    PleTable,
    /// The square AltUp matrices, which a file stacks.
    AltupStack,
    /// AltUp's router, LAuReL and the projection of per-layer embeddings: few values, used by every token.
    Helper,
    /// Attention, feed-forward and the per-layer gate.
    Matrix,
}

/// A tensor whose type is to be chosen.
#[derive(Clone, Copy, Debug)]
pub struct TensorInfo<'a> {
    /// transformers' name without its prefix, such as `layers.3.mlp.gate_proj.weight`; that of a stack's first matrix.
    pub canonical: &'a str,
    /// Name in the file, such as `blk.3.ffn_gate.weight`.
    pub name: &'a str,
    /// What the tensor is for.
    pub class: Class,
    /// Values of a row.
    pub columns: usize,
    /// Type in the source.
    pub stored: DType,
}

/// A rule: tensors whose names match get a type.
#[derive(Clone, Debug)]
pub struct Rule {
    /// What is looked for in the name in the file.
    pub pattern: Regex,
    /// What they get.
    pub dtype: DType,
}

/// Why a rule cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    /// No `=`.
    #[error("the rule {0:?} has no type; write REGEX=TYPE, such as 'ffn_down=q8_0'")]
    NoType(String),
    /// An unknown type.
    #[error("the rule {rule:?} names the unknown type {dtype:?}; choose {}", type_names())]
    Type {
        /// The rule.
        rule: String,
        /// What it says.
        dtype: String,
    },
    /// Not a regular expression.
    #[error("the rule {rule:?} is no regular expression: {reason}")]
    Pattern {
        /// The rule.
        rule: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// The types of a file.
#[derive(Clone, Debug, Default)]
pub struct TypeRules {
    /// Type of matrices; none keeps each as it is stored.
    pub matrices: Option<DType>,
    /// Type of the embedding; none is that of matrices.
    pub embedding: Option<DType>,
    /// Type of the table of per-layer embeddings; none is that of matrices.
    pub ple_table: Option<DType>,
    /// Type of the AltUp matrices, routers, LAuReL and the per-layer projection; none is that of matrices.
    pub helpers: Option<DType>,
    /// Stronger than all of these; the last that matches counts.
    pub rules: Vec<Rule>,
}

impl Rule {
    /// Reads `REGEX=TYPE`; the type stands behind the last `=`.
    ///
    /// # Errors
    /// [`RuleError`].
    pub fn parse(text: &str) -> Result<Self, RuleError> {
        let (pattern, name) = text.rsplit_once('=').ok_or_else(|| RuleError::NoType(text.to_owned()))?;
        let dtype = DType::from_name(name.trim())
            .ok_or_else(|| RuleError::Type { rule: text.to_owned(), dtype: name.to_owned() })?;
        let pattern = Regex::new(pattern)
            .map_err(|error| RuleError::Pattern { rule: text.to_owned(), reason: error.to_string() })?;
        Ok(Self { pattern, dtype })
    }
}

impl TypeRules {
    /// The usual types of a file of mostly `dtype` weights: what few values go through, but every token, is kept
    /// finer than the rest, because it costs next to nothing.
    pub fn quantised(dtype: DType) -> Self {
        let finer =
            |least: DType| if least.bits_per_value() > dtype.bits_per_value() { least } else { dtype };
        Self {
            matrices: Some(dtype),
            embedding: Some(finer(DType::Q6K)),
            ple_table: None,
            helpers: Some(finer(DType::Q8_0)),
            rules: Vec::new(),
        }
    }

    /// The type that `tensor` should have, whether it fits or not.
    pub fn wanted(&self, tensor: &TensorInfo<'_>) -> DType {
        if tensor.class == Class::Small {
            return DType::F32;
        }
        let rule = self.rules.iter().rev().find(|rule| rule.pattern.is_match(tensor.name));
        let class = match tensor.class {
            Class::Embedding => self.embedding,
            Class::PleTable => self.ple_table,
            Class::AltupStack | Class::Helper => self.helpers,
            Class::Small | Class::Matrix => None,
        };
        rule.map(|rule| rule.dtype).or(class).or(self.matrices).unwrap_or(tensor.stored)
    }
}

/// `wanted`, or what comes next to it and has blocks that end with the row: Q8_0 for the types with long blocks, then
/// the stored type where it is plain, then f16.
pub(super) fn fitting(wanted: DType, tensor: &TensorInfo<'_>) -> DType {
    let fits = |dtype: &DType| tensor.columns.is_multiple_of(dtype.block_len());
    let long = wanted.block_len() > DType::Q8_0.block_len();
    let stored = Some(tensor.stored).filter(|stored| stored.block_len() == 1);
    [Some(wanted), long.then_some(DType::Q8_0), stored].into_iter().flatten().find(fits).unwrap_or(DType::F16)
}

/// Every type's name, for messages.
pub fn type_names() -> String {
    DType::ALL.map(DType::name).join(", ")
}
