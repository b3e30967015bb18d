//! A vocabulary of made-up pieces in Gemma's layout, for files of synthetic weights.
//!
//! It has what readers insist on (special ids, all bytes, a piece for every printable ASCII character) and as many
//! pieces and about as many merges as a real one, so that loading it costs about the same. It is nobody's vocabulary.

use crate::Config;
use crate::checkpoint::GgufVocabulary;

const NORMAL: i32 = 1;
const UNKNOWN: i32 = 2;
const CONTROL: i32 = 3;
const BYTE: i32 = 6;
/// First of Gemma's 256 byte tokens.
const FIRST_BYTE: usize = 238;
/// Ids with a role in Gemma's chat format.
const TURNS: [(usize, &str); 2] = [(105, "<start_of_turn>"), (106, "<end_of_turn>")];
const SPACE: char = '\u{2581}';

/// A vocabulary for `config`: as many ids as it has, with its ids for the beginning and the end of a text.
pub fn synthetic_vocabulary(config: &Config) -> GgufVocabulary {
    let count = config.vocabulary;
    let mut pieces = pieces();
    let (mut tokens, mut types) = (Vec::with_capacity(count), Vec::with_capacity(count));
    for id in 0..count {
        let (token, kind) = special(id).unwrap_or_else(|| {
            let piece = pieces.next();
            piece.map_or_else(|| (format!("[PAD{id}]"), CONTROL), |piece| (piece, NORMAL))
        });
        tokens.push(token);
        types.push(kind);
    }
    let turn = TURNS[1].0;
    GgufVocabulary {
        model: "llama".to_owned(),
        scores: types
            .iter()
            .enumerate()
            .map(|(id, kind)| if *kind == NORMAL { -(id as f32) } else { 0.0 })
            .collect(),
        tokens,
        token_types: types,
        bos: Some(2),
        eos: Some(1),
        end_of_turn: (turn < count).then_some(turn as u32),
        unknown: Some(3),
        padding: Some(0),
        add_bos: Some(true),
        add_space_prefix: Some(false),
        ..GgufVocabulary::default()
    }
}

fn special(id: usize) -> Option<(String, i32)> {
    let byte = id.checked_sub(FIRST_BYTE).filter(|byte| *byte < 256);
    let turn = TURNS.iter().find(|(turn, _)| *turn == id);
    match (id, byte, turn) {
        (0..=2, ..) => Some((["<pad>", "<eos>", "<bos>"][id].to_owned(), CONTROL)),
        (3, ..) => Some(("<unk>".to_owned(), UNKNOWN)),
        (_, Some(byte), _) => Some((format!("<0x{byte:02X}>"), BYTE)),
        (.., Some((_, name))) => Some(((*name).to_owned(), CONTROL)),
        _ => None,
    }
}

/// Characters, then longer and longer strings of them, each of which two earlier pieces make.
fn pieces() -> impl Iterator<Item = String> {
    let characters = || ('!'..='~').chain([SPACE]);
    let letters = || 'a'..='z';
    let pairs = move || letters().flat_map(move |a| letters().map(move |b| format!("{a}{b}")));
    let triples = move || pairs().flat_map(move |ab| letters().map(move |c| format!("{ab}{c}")));
    let spaced = move |piece: String| format!("{SPACE}{piece}");
    let named =
        move || ('A'..='Z').flat_map(move |first| triples().map(move |rest| format!("{first}{rest}")));
    characters()
        .map(String::from)
        .chain(pairs())
        .chain(letters().map(String::from).map(spaced))
        .chain(pairs().map(spaced))
        .chain(triples())
        .chain(triples().map(spaced))
        .chain(named())
}
