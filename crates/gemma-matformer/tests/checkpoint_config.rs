//! config.json: layouts, defaults and refusals.

mod checkpoint_support;

use checkpoint_support::{config_json, tiny};
use gemma_matformer::{Config, LayerKind, ModelFamily};
use serde_json::{Value, json};

fn read(json: &Value) -> Result<Config, String> {
    Config::from_json(json.to_string().as_bytes(), "config.json").map_err(|error| error.to_string())
}

/// The tiny configuration with one field changed; null removes it.
fn with(field: &str, value: Value) -> Value {
    let mut json = config_json();
    json[field] = value;
    json
}

#[test]
fn every_field_of_the_text_layout_is_read() {
    assert_eq!(read(&config_json()), Ok(tiny()));
}

#[test]
fn the_multimodal_layout_is_the_text_layout_inside() {
    let mut text = config_json();
    text["eos_token_id"] = json!(1);
    let json =
        json!({"model_type": "gemma3n", "text_config": text, "vision_config": {}, "eos_token_id": [1, 7, 9]});
    assert_eq!(read(&json), Ok(tiny()));
}

#[test]
fn missing_keys_take_the_defaults_of_e4b() {
    let expected = Config { eos: vec![1], ..Config::e4b() };
    assert_eq!(read(&json!({"model_type": "gemma3n_text"})), Ok(expected));
}

#[test]
fn rope_bases_are_read_by_layer_type() {
    let mut json = with("rope_theta", Value::Null);
    json["rope_local_base_freq"] = Value::Null;
    json["rope_parameters"] = json!({
        "full_attention": {"rope_type": "default", "rope_theta": 500_000.0},
        "sliding_attention": {"rope_type": "default", "rope_theta": 5_000.0},
    });
    assert_eq!(read(&json), Ok(tiny()));
}

#[test]
fn one_number_stands_for_every_layer() {
    let config = read(&with("intermediate_size", json!(96))).unwrap();
    assert_eq!(config.ffn_widths, [96; 4]);
    let config = read(&with("activation_sparsity_pattern", json!(0.5))).unwrap();
    assert_eq!(config.sparsity, [0.5; 4]);
}

#[test]
fn sparsity_is_ten_layers_where_nothing_is_said() {
    assert_eq!(read(&with("activation_sparsity_pattern", Value::Null)).unwrap().sparsity, [0.0; 4]);
    let json = json!({"model_type": "gemma3n_text", "num_hidden_layers": 30, "num_kv_shared_layers": 10});
    assert_eq!(read(&json).unwrap().sparsity, Config::e2b().sparsity);
}

#[test]
fn what_cannot_be_is_refused_by_field() {
    let again = "copy config.json again from where the weights came from";
    let copy = "copy the configuration again from where the weights came from";
    let published = "no published model needs it; use the published configuration";
    for (field, value, problem, remedy) in [
        ("hidden_size", json!("64"), "\"64\" is not a count", again),
        ("hidden_size", json!(-1), "-1 is not a count", again),
        ("hidden_size", json!(0), "0 is not between 1 and 65536", copy),
        ("hidden_size", json!(65_537), "65537 is not between 1 and 65536", copy),
        ("num_hidden_layers", json!(1025), "1025 is not between 1 and 1024", again),
        ("num_hidden_layers", json!(u64::MAX), "18446744073709551615 is not between 1 and 1024", again),
        ("intermediate_size", json!([64]), "1 values for 4 layers", again),
        ("intermediate_size", json!([64, 64, 64, 1.5]), "1.5 is not a count", again),
        ("intermediate_size", json!(1 << 21), "2097152 is not between 1 and 1048576", copy),
        ("activation_sparsity_pattern", json!(1.0), "1 is not a fraction from 0 to below 1", copy),
        ("activation_sparsity_pattern", json!(-0.5), "-0.5 is not a fraction from 0 to below 1", copy),
        ("layer_types", json!(["full_attention"]), "1 values for 4 layers", again),
        ("layer_types", json!({}), "is not a list", again),
        ("num_key_value_heads", json!(3), "3 does not divide the 4 query heads", copy),
        ("num_key_value_heads", json!(0), "0 is not between 1 and 4", copy),
        ("head_dim", json!(33), "33 is odd, but RoPE turns pairs of values", copy),
        ("num_kv_shared_layers", json!(4), "4 of 4 layers leaves none to share from", copy),
        ("num_kv_shared_layers", json!(3), "layer 1 has no earlier layer of its kind to share from", copy),
        ("rms_norm_eps", json!(0.0), "0 is not a positive number", copy),
        ("rope_theta", json!(1e39), "inf is not a positive number", copy),
        ("eos_token_id", json!([1, 48]), "48 is not below the vocabulary of 48", copy),
        ("eos_token_id", json!(vec![1; 65]), "65 ids, but at most 64 are read", again),
        ("bos_token_id", json!(vec![1; 65]), "65 ids, but at most 64 are read", again),
        ("altup_num_inputs", json!(1), "1 is not between 2 and 8", copy),
        ("altup_num_inputs", json!(9), "9 is not between 2 and 8", copy),
        ("eos_token_id", json!("x"), "\"x\" is not a token id or a list of them", again),
        ("tie_word_embeddings", json!(false), "false is not supported", published),
        ("attention_bias", json!(true), "true is not supported", published),
        ("hidden_activation", json!("silu"), "'silu' is not supported", published),
        ("altup_active_idx", json!(1), "1 is not supported", published),
        ("rope_scaling", json!({"rope_type": "yarn"}), "rope type 'yarn' is not supported", published),
        ("text_config", json!([]), "is not an object", again),
    ] {
        let error = read(&with(field, value)).unwrap_err();
        assert_eq!(error, format!("config.json: {field}: {problem}; {remedy}"));
    }
}

#[test]
fn a_layer_type_that_does_not_exist_is_named() {
    let kinds = json!(["sliding_attention", "chunked_attention", "sliding_attention", "full_attention"]);
    assert_eq!(
        read(&with("layer_types", kinds)).unwrap_err(),
        "config.json: layer_types: \"chunked_attention\" is neither sliding_attention nor full_attention; \
         copy config.json again from where the weights came from"
    );
}

#[test]
fn another_architecture_is_named() {
    for (json, found) in [
        (with("model_type", json!("llama")), "'llama'"),
        (with("model_type", Value::Null), "not named (model_type is missing)"),
        (json!({"model_type": "gemma2", "text_config": {"model_type": "gemma3_text"}}), "'gemma2'"),
    ] {
        assert_eq!(
            read(&json).unwrap_err(),
            format!(
                "config.json: the architecture is {found}, but only Gemma 3n (gemma3n, gemma3n_text) and \
                 Gemma 3 (gemma3, gemma3_text) can be run; use one of these"
            )
        );
    }
}

/// Keys of Gemma 3 4B's published config.json; all others are left to defaults there.
fn gemma3_4b() -> Value {
    json!({
        "model_type": "gemma3",
        "eos_token_id": [1, 106],
        "text_config": {
            "model_type": "gemma3_text",
            "hidden_size": 2560,
            "intermediate_size": 10_240,
            "num_hidden_layers": 34,
            "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
            "sliding_window": 1024,
        },
    })
}

#[test]
fn gemma_3_is_read_from_both_layouts() {
    let config = read(&gemma3_4b()).unwrap();
    assert_eq!(config.family, ModelFamily::Gemma3);
    assert_eq!((config.hidden, config.layers(), config.window), (2560, 34, 1024));
    assert_eq!((config.heads, config.kv_heads, config.head_dim, config.vocabulary), (8, 4, 256, 262_208));
    assert_eq!((config.rope_theta, config.rope_local_theta, config.rope_stretch), (1e6, 1e4, 8.0));
    assert_eq!((config.layer_stretch(4), config.layer_stretch(5)), (1.0, 8.0));
    assert_eq!((config.query_scale, config.softcap), (1.0 / 16.0, None));
    assert_eq!((config.max_context, config.eos.as_slice(), config.bos), (131_072, [1, 106].as_slice(), 2));
    let full: Vec<usize> = (0..34).filter(|layer| config.layer_kinds[*layer] == LayerKind::Full).collect();
    assert_eq!(full, [5, 11, 17, 23, 29]);

    let mut text = gemma3_4b()["text_config"].take();
    text["eos_token_id"] = json!([1, 106]);
    assert_eq!(read(&text), Ok(config.clone()));
    text["rope_scaling"].take();
    text["rope_parameters"] = json!({
        "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1_000_000.0},
        "sliding_attention": {"rope_type": "default", "rope_theta": 10_000.0},
    });
    assert_eq!(read(&text), Ok(config));
}

#[test]
fn the_pattern_of_gemma_3_may_be_a_period() {
    for key in ["sliding_window_pattern", "_sliding_window_pattern"] {
        let mut json = gemma3_4b();
        json["text_config"][key] = json!(2);
        let config = read(&json).unwrap();
        assert_eq!(config.layer_kinds[..3], [LayerKind::Sliding, LayerKind::Full, LayerKind::Sliding]);
    }
}

#[test]
fn what_gemma_3_cannot_be_is_refused_by_field() {
    let again = "copy config.json again from where the weights came from";
    let copy = "copy the configuration again from where the weights came from";
    let published = "no published model needs it; use the published configuration";
    for (field, value, problem, remedy) in [
        ("use_bidirectional_attention", json!(true), "attention to later tokens is not supported", published),
        ("attn_logit_softcapping", json!(50.0), "50 is not supported", published),
        ("tie_word_embeddings", json!(false), "false is not supported", published),
        ("rope_scaling", json!({"rope_type": "yarn"}), "rope type 'yarn' is not supported", published),
        ("rope_scaling", json!({"rope_type": "linear"}), "rope type 'linear' has no factor", again),
        ("rope_scaling", json!({"rope_type": "linear", "factor": 0}), "0 is not a positive number", copy),
        ("sliding_window_pattern", json!(0), "is 0", again),
        ("query_pre_attn_scalar", json!(0), "inf is not a positive number", copy),
        ("final_logit_softcapping", json!(-1), "-1 is not a positive number", copy),
        ("num_hidden_layers", json!(1025), "1025 is not between 1 and 1024", again),
    ] {
        let mut json = gemma3_4b();
        json["text_config"][field] = value;
        assert_eq!(read(&json).unwrap_err(), format!("config.json: {field}: {problem}; {remedy}"));
    }
}

#[test]
fn fields_of_the_other_family_are_refused() {
    let gemma3 = read(&gemma3_4b()).unwrap();
    for (field, config) in [
        ("altup_num_inputs", Config { altup_streams: 4, ..gemma3.clone() }),
        ("laurel_rank", Config { laurel_rank: 64, ..gemma3.clone() }),
        ("hidden_size_per_layer_input", Config { ple_width: 256, ..gemma3.clone() }),
        ("vocab_size_per_layer_input", Config { ple_vocabulary: 1, ..gemma3.clone() }),
        ("num_kv_shared_layers", Config { shared_kv_layers: 1, ..gemma3.clone() }),
        ("activation_sparsity_pattern", Config { sparsity: vec![0.5; 34], ..gemma3.clone() }),
        ("hidden_size_per_layer_input", Config { family: ModelFamily::Gemma3n, ..gemma3.clone() }),
    ] {
        let error = config.validate("x").unwrap_err().to_string();
        assert!(error.starts_with(&format!("x: {field}: ")), "{field}: {error}");
    }
}

#[test]
fn text_that_is_not_json_is_refused() {
    let deep = "[".repeat(100_000);
    for (bytes, reason) in [
        (b"".as_slice(), "EOF while parsing a value at line 1 column 0"),
        (b"[]", "invalid type: sequence, expected a map at line 1 column 0"),
        (b"{\"a\": \xff}", "expected value at line 1 column 7"),
        (format!("{{\"a\": {deep}").as_bytes(), "recursion limit exceeded at line 1 column 133"),
    ] {
        let error = Config::from_json(bytes, "config.json").unwrap_err().to_string();
        assert_eq!(
            error,
            format!(
                "config.json: not a JSON object: {reason}; copy config.json again from where the weights came from"
            )
        );
    }
}

#[test]
fn a_huge_config_is_not_parsed() {
    let bytes = vec![b' '; (16 << 20) + 1];
    assert_eq!(
        Config::from_json(&bytes, "config.json").unwrap_err().to_string(),
        "config.json: 16777217 bytes, but a configuration has at most 16777216; is this the right file?"
    );
}
