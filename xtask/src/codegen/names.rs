//! Published names as Rust writes them.

/// `TransactionalId` becomes `transactional_id`.
pub(crate) fn snake(name: &str) -> String {
    let letters: Vec<char> = name.replace("KRaft", "Kraft").chars().collect();
    let mut snake = String::new();
    for (at, &letter) in letters.iter().enumerate() {
        let before = at.checked_sub(1).map(|before| letters[before]);
        let after = letters.get(at + 1);
        let starts_word = letter.is_ascii_uppercase()
            && before.is_some_and(|before| {
                !before.is_ascii_uppercase() || after.is_some_and(char::is_ascii_lowercase)
            });
        if starts_word {
            snake.push('_');
        }
        snake.push(letter.to_ascii_lowercase());
    }
    snake
}

/// A field's name in Rust.
pub(crate) fn field(name: &str) -> String {
    let snake = snake(name);
    if matches!(snake.as_str(), "type" | "match") { format!("r#{snake}") } else { snake }
}

/// `OFFSET_OUT_OF_RANGE` becomes `OffsetOutOfRange`.
pub(crate) fn camel(name: &str) -> String {
    let mut camel = String::new();
    for word in name.split('_') {
        let (first, rest) = word.split_at(word.len().min(1));
        camel.push_str(first);
        camel.push_str(&rest.to_ascii_lowercase());
    }
    camel
}

/// Whether Rust code mentions the variable `name`, rather than a field of that name or a text.
pub(crate) fn mentions(code: &str, name: &str) -> bool {
    let code: String = code.split('"').step_by(2).collect::<Vec<_>>().join("\"\"");
    let is_word = |letter: char| letter.is_alphanumeric() || letter == '_' || letter == '#';
    code.match_indices(name).any(|(at, _)| {
        let (before, after) = (&code[..at], &code[at + name.len()..]);
        !before.ends_with(|letter: char| is_word(letter) || letter == '.')
            && !after.starts_with(is_word)
            && (!after.starts_with(':') || after.starts_with("::"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn snake_splits_words() {
        for (name, expected) in [
            ("TransactionalId", "transactional_id"),
            ("timeoutMs", "timeout_ms"),
            ("V3AndBelowTopics", "v3_and_below_topics"),
            ("Enable2Pc", "enable2_pc"),
            ("KRaftVersionFeature", "kraft_version_feature"),
            ("LastKnownElr", "last_known_elr"),
        ] {
            assert_eq!(snake(name), expected);
        }
    }

    #[test]
    fn camel_joins_words() {
        assert_eq!(camel("UNKNOWN_TOPIC_OR_PARTITION"), "UnknownTopicOrPartition");
    }
}
