//! Between the tokenizer arrays of a GGUF file and the tokenizer: the one place that knows both.

use std::collections::HashMap;

use gemma_matformer::checkpoint::{GgufVocabulary, TokenizerSource};
use gemma_text::{SpecialTokens, TokenType, Tokenizer, TokenizerConfig, Vocabulary};

use crate::{EngineError, Model};

/// The only algorithm of Gemma's tokenizers, as GGUF calls it.
const MODEL: &str = "llama";
/// What stands for a space in pieces.
const SPACE_PIECE: char = '\u{2581}';

/// The arrays as the tokenizer takes them; `name` is used in errors.
///
/// # Errors
/// [`EngineError::TokenizerKind`] for another algorithm than Gemma's.
pub fn from_gguf(gguf: &GgufVocabulary, name: &str) -> Result<Vocabulary, EngineError> {
    if gguf.model != MODEL {
        return Err(EngineError::TokenizerKind { model: name.to_owned(), found: gguf.model.clone() });
    }
    Ok(Vocabulary {
        name: name.to_owned(),
        tokens: gguf.tokens.clone(),
        scores: (!gguf.scores.is_empty()).then(|| gguf.scores.clone()),
        merges: (!gguf.merges.is_empty()).then(|| gguf.merges.clone()),
        token_types: gguf.token_types.clone(),
        bos: gguf.bos,
        eos: gguf.eos,
        unk: gguf.unknown,
        pad: gguf.padding,
        add_bos: gguf.add_bos.unwrap_or(true),
        add_space_prefix: gguf.add_space_prefix.unwrap_or(false),
    })
}

/// A tokenizer.json as the arrays of a GGUF file, with no more than it takes to read the same tokenizer back.
///
/// Merges are left out where those that readers derive from the scores are the same, and the JSON itself is embedded
/// only where the arrays do not encode and decode as it does. The one text on which they may differ is a run of
/// literal U+2581, which Gemma's JSON takes for itself and the arrays for spaces.
///
/// # Errors
/// [`EngineError::Tokenizer`] where it is not sound.
pub fn from_json(json: &[u8], name: &str) -> Result<GgufVocabulary, EngineError> {
    let tokenizer = Tokenizer::from_json(json, name)?;
    let mut vocabulary = Vocabulary::from_json(json, name)?;
    let derived = Vocabulary { scores: Some(scores(&vocabulary)), ..vocabulary.clone() };
    if derives_its_merges(&derived)? {
        vocabulary = Vocabulary { merges: None, ..derived };
    }
    let says_all = Tokenizer::from_vocabulary(&vocabulary).is_ok_and(|arrays| are_alike(&tokenizer, &arrays));
    Ok(GgufVocabulary {
        model: MODEL.to_owned(),
        tokens: vocabulary.tokens,
        scores: vocabulary.scores.unwrap_or_default(),
        token_types: vocabulary.token_types,
        merges: vocabulary.merges.unwrap_or_default(),
        bos: vocabulary.bos,
        eos: vocabulary.eos,
        end_of_turn: tokenizer.end_of_turn_id(),
        unknown: vocabulary.unk,
        padding: vocabulary.pad,
        add_bos: Some(vocabulary.add_bos),
        add_space_prefix: Some(vocabulary.add_space_prefix),
        chat_template: None,
        huggingface_json: (!says_all).then(|| compact(&String::from_utf8_lossy(json))),
    })
}

/// Scores in the order of the merges that make each piece, and the same one for pieces whose merges stand between each
/// other's, as those of runs of spaces do: among pieces of one score, readers go by the length of the left part.
fn scores(vocabulary: &Vocabulary) -> Vec<f32> {
    let wholes: Vec<String> =
        vocabulary.merges.iter().flatten().map(|merge| merge.replacen(' ', "", 1)).collect();
    let last: HashMap<&str, usize> =
        wholes.iter().enumerate().map(|(rank, whole)| (whole.as_str(), rank)).collect();
    let mut scores: HashMap<&str, f32> = HashMap::with_capacity(last.len());
    // Ranks up to `end` belong with the piece whose merges begin at `begin`.
    let (mut begin, mut end) = (0, 0);
    for (rank, whole) in wholes.iter().enumerate() {
        if rank > end {
            begin = rank;
        }
        end = end.max(last[whole.as_str()]);
        scores.entry(whole).or_insert(-(begin as f32));
    }
    let normal = |id: usize| vocabulary.token_types[id] == TokenType::Normal as i32;
    let tokens = vocabulary.tokens.iter().enumerate().map(|(id, token)| {
        // What no merge makes comes behind all that merges make.
        let score = scores.get(token.as_str()).copied().unwrap_or(-((wholes.len() + id) as f32));
        if normal(id) { score } else { 0.0 }
    });
    tokens.collect()
}

/// Whether the scores give the merges again, but for those that no text can reach.
fn derives_its_merges(vocabulary: &Vocabulary) -> Result<bool, EngineError> {
    let types: HashMap<&str, i32> =
        vocabulary.tokens.iter().map(String::as_str).zip(vocabulary.token_types.iter().copied()).collect();
    // These are cut out of a text before anything is merged.
    let unreachable =
        [TokenType::UserDefined, TokenType::Control, TokenType::Unknown].map(|kind| kind as i32);
    let is_unreachable = |piece: &str| types.get(piece).is_some_and(|kind| unreachable.contains(kind));
    let reachable = |merge: &&String| {
        let (left, right) = merge.split_once(' ').unwrap_or((merge, ""));
        ![left, right, &format!("{left}{right}")].into_iter().any(is_unreachable)
    };
    let merges = vocabulary.merges.iter().flatten();
    Ok(merges.filter(reachable).eq(&vocabulary.derived_merges()?))
}

/// Whether two tokenizers have the same tokens in the same roles and encode every piece, and what tells the switches
/// of the format apart, to the same ids.
fn are_alike(json: &Tokenizer, arrays: &Tokenizer) -> bool {
    /// Spaces, what no piece spells, line ends, and pieces that are cut out whole.
    const PROBES: [&str; 6] = [
        "a b",
        "  two   three ",
        " ",
        "\u{10fffd}\u{10fffe}x\u{10fffd} \u{e000}",
        "one\ntwo\r\n\n\n\tthree",
        "<b>bold</b><bos><end_of_turn>",
    ];
    let roles = |tokenizer: &Tokenizer| {
        let ids = [tokenizer.bos_id(), tokenizer.eos_id(), tokenizer.unknown_id(), tokenizer.pad_id()];
        (ids, tokenizer.end_of_turn_id(), tokenizer.adds_bos(), tokenizer.vocab_size())
    };
    let ids = || (0..json.vocab_size() as u32).filter(|id| json.piece(*id).is_some());
    let token = |tokenizer: &Tokenizer, id: u32| {
        let (piece, bytes) =
            (tokenizer.piece(id).map(str::to_owned), tokenizer.token_bytes(id).map(<[u8]>::to_vec));
        (piece, bytes, tokenizer.is_special(id))
    };
    let same_ids = |text: &str| {
        [SpecialTokens::AsText, SpecialTokens::Parse]
            .into_iter()
            .all(|special| json.encode(text, special).ok() == arrays.encode(text, special).ok())
    };
    let same_text = |text: &str| {
        let ids = json.encode(text, SpecialTokens::AsText).unwrap_or_default();
        json.decode(&ids) == arrays.decode(&ids)
    };
    roles(json) == roles(arrays)
        && ids().all(|id| token(json, id) == token(arrays, id))
        && PROBES.into_iter().all(|text| same_ids(text) && same_text(text))
        && ids().filter_map(|id| json.piece(id)).all(|piece| same_ids(&piece.replace(SPACE_PIECE, " ")))
}

impl Model {
    /// The tokenizer and the chat template as a GGUF file should carry them; none where the model has no tokenizer. A
    /// tokenizer.json that a GGUF file has embedded goes the way of one that stands beside weights, see [`from_json`].
    ///
    /// # Errors
    /// As [`Model::tokenizer`] and [`Model::chat_template`].
    pub fn gguf_vocabulary(&self) -> Result<Option<GgufVocabulary>, EngineError> {
        let (path, config, template) = match self.checkpoint().tokenizer() {
            None => return Ok(None),
            Some(TokenizerSource::Gguf(vocabulary)) => return self.lean(vocabulary).map(Some),
            Some(TokenizerSource::Files { tokenizer, config, template }) => (tokenizer, config, template),
        };
        let name = path.display().to_string();
        let mut vocabulary = from_json(&TokenizerSource::read(path)?, &name)?;
        if let Some(config) = config {
            let tokenizer = self.tokenizer()?;
            vocabulary.bos = tokenizer.bos_id();
            vocabulary.eos = tokenizer.eos_id();
            vocabulary.add_bos = Some(tokenizer.adds_bos());
            let name = config.display().to_string();
            let config = TokenizerConfig::from_json(&TokenizerSource::read(config)?, &name)?;
            let default = config.chat_templates.into_iter().find(|(name, _)| name == "default");
            vocabulary.chat_template = default.map(|(_, template)| template);
        }
        if let Some(template) = template {
            let template = TokenizerSource::read(template)?;
            vocabulary.chat_template = Some(String::from_utf8_lossy(&template).into_owned());
        }
        Ok(Some(vocabulary))
    }

    /// `found` without a tokenizer.json that its arrays can stand for.
    fn lean(&self, found: &GgufVocabulary) -> Result<GgufVocabulary, EngineError> {
        let Some(json) = &found.huggingface_json else { return Ok(found.clone()) };
        let own = from_json(json.as_bytes(), self.checkpoint().name())?;
        Ok(GgufVocabulary {
            bos: found.bos.or(own.bos),
            eos: found.eos.or(own.eos),
            end_of_turn: found.end_of_turn.or(own.end_of_turn),
            add_bos: found.add_bos.or(own.add_bos),
            chat_template: found.chat_template.clone(),
            ..own
        })
    }
}

/// The same JSON without the white space between its parts.
fn compact(json: &str) -> String {
    let (mut in_text, mut escaped) = (false, false);
    let keep = |c: &char| {
        let space = !in_text && c.is_ascii_whitespace();
        if *c == '"' && !escaped {
            in_text = !in_text;
        }
        escaped = in_text && *c == '\\' && !escaped;
        !space
    };
    json.chars().filter(keep).collect()
}

#[cfg(test)]
mod tests {
    use super::compact;

    #[test]
    fn white_space_in_texts_stays() {
        let json = "{ \"a b\" : [ 1,\n 2 ], \"c\\\" d\" : \" \\\\\" }";
        assert_eq!(compact(json), "{\"a b\":[1,2],\"c\\\" d\":\" \\\\\"}");
    }
}
