//! The difference of two documents as a JSON patch (RFC 6902).

use serde_json::{Value, json};

/// Operations that make `after` of `before`. Lists that differ are replaced whole.
pub fn patch(before: &Value, after: &Value) -> Vec<Value> {
    let mut operations = Vec::new();
    compare(before, after, "", &mut operations);
    operations
}

fn compare(before: &Value, after: &Value, path: &str, operations: &mut Vec<Value>) {
    let (Value::Object(old), Value::Object(new)) = (before, after) else {
        if before != after {
            operations.push(json!({"op": "replace", "path": path, "value": after}));
        }
        return;
    };
    for name in old.keys().filter(|name| !new.contains_key(*name)) {
        operations.push(json!({"op": "remove", "path": member(path, name)}));
    }
    for (name, value) in new {
        let path = member(path, name);
        match old.get(name) {
            Some(before) => compare(before, value, &path, operations),
            None => operations.push(json!({"op": "add", "path": path, "value": value})),
        }
    }
}

/// RFC 6901, section 3.
fn member(path: &str, name: &str) -> String {
    format!("{path}/{}", name.replace('~', "~0").replace('/', "~1"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_differs_is_named() {
        let before = json!({"a": 1, "gone": 2, "deep": {"same": 3, "list": [1]}, "labels": {"x/y~z": "1"}});
        let after = json!({"a": 1, "deep": {"same": 3, "list": [1, 2]}, "labels": {"x/y~z": "2"}, "new": {}});
        let expected = json!([
            {"op": "remove", "path": "/gone"},
            {"op": "replace", "path": "/deep/list", "value": [1, 2]},
            {"op": "replace", "path": "/labels/x~1y~0z", "value": "2"},
            {"op": "add", "path": "/new", "value": {}},
        ]);
        assert_eq!(Value::Array(patch(&before, &after)), expected);
        assert!(patch(&after, &after).is_empty());
    }
}
