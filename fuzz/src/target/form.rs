//! Queries and form bodies.

use claviger_protocol::form::Params;

/// As many as `protocol::form` takes.
const MAX_PARAMS: usize = 64;

/// What can be read holds no more than it may, nothing empty, and reads the same when its pairs are printed again.
pub fn params(bytes: &[u8]) {
    let Ok(read) = Params::parse(bytes) else { return };
    let names = names(bytes);
    assert!(names.len() <= MAX_PARAMS, "{} parameters", names.len());
    let mut printed = url::form_urlencoded::Serializer::new(String::new());
    for name in &names {
        if let Some(value) = read.get(name) {
            assert!(!value.is_empty(), "{name} is there and empty");
            printed.append_pair(name, value);
        }
    }
    let again =
        Params::parse(printed.finish().as_bytes()).expect("what was read can be read again");
    assert!(read == again, "read otherwise the second time");
}

/// The names, by another's parser.
fn names(bytes: &[u8]) -> Vec<String> {
    url::form_urlencoded::parse(bytes).map(|(name, _)| name.into_owned()).collect()
}
