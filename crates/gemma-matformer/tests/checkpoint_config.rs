//! config.json: layouts, defaults and refusals.

mod checkpoint_support;

use checkpoint_support::{config_json, tiny};
use gemma_matformer::Config;
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
    let published = "no published Gemma 3n model needs it; use the published configuration";
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
        (json!({"model_type": "gemma3", "text_config": {"model_type": "gemma3_text"}}), "'gemma3'"),
    ] {
        assert_eq!(
            read(&json).unwrap_err(),
            format!(
                "config.json: the architecture is {found}, but only Gemma 3n (gemma3n, gemma3n_text) can be run; \
                 use a Gemma 3n E2B or E4B model"
            )
        );
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
