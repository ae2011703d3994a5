//! Settings of an installation: the chart's values, with what the user changes. A name that the chart does not have is refused.

use serde_json::Value;

use super::chart;

/// All values.
#[derive(Debug, Clone)]
pub(super) struct Values(Value);

/// What is wrong with a setting.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Error {
    #[error("`{0}` is no setting; deploy/charts/mesh/values.yaml has all of them")]
    Unknown(String),
    #[error("`{at}` must be {wanted}")]
    Type { at: String, wanted: &'static str },
    #[error("`{0}` is not NAME=VALUE")]
    Form(String),
    #[error("not valid YAML: {0}")]
    Yaml(String),
}

impl Values {
    /// The chart's own.
    pub(super) fn defaults() -> Self {
        Self(serde_saphyr::from_str(chart::VALUES).expect("the chart's values are YAML; a test reads them"))
    }

    /// Takes over what a file of values says.
    pub(super) fn merge_text(&mut self, text: &str) -> Result<(), Error> {
        let over: Value = serde_saphyr::from_str(text).map_err(|error| Error::Yaml(error.to_string()))?;
        merge(&mut self.0, over, "")
    }

    /// Takes over `a.b=value`; several may be given with commas between, as with Helm.
    pub(super) fn set(&mut self, settings: &str) -> Result<(), Error> {
        for setting in settings.split(',') {
            let (path, text) = setting.split_once('=').ok_or_else(|| Error::Form(setting.to_owned()))?;
            let value = serde_saphyr::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned()));
            let over = path.rsplit('.').fold(value, |value, name| serde_json::json!({ name: value }));
            merge(&mut self.0, over, "")?;
        }
        Ok(())
    }

    /// The value of that name.
    pub(super) fn get(&self, path: &str) -> Option<&Value> {
        path.split('.').try_fold(&self.0, |value, name| value.get(name))
    }
}

fn merge(base: &mut Value, over: Value, at: &str) -> Result<(), Error> {
    let wrong = |wanted| Error::Type { at: at.to_owned(), wanted };
    match (&mut *base, over) {
        // Kubernetes' own structure, which the chart passes on as it is.
        (base, over @ Value::Object(_)) if at.ends_with("resources") => *base = over,
        (Value::Object(members), Value::Object(over)) => {
            for (name, value) in over {
                let at = if at.is_empty() { name.clone() } else { format!("{at}.{name}") };
                let member = members.get_mut(&name).ok_or_else(|| Error::Unknown(at.clone()))?;
                merge(member, value, &at)?;
            }
        }
        (Value::Object(_), _) => return Err(wrong("an object")),
        (Value::Bool(base), Value::Bool(over)) => *base = over,
        (Value::Bool(_), _) => return Err(wrong("true or false")),
        (Value::Number(base), Value::Number(over)) => *base = over,
        (Value::Number(_), _) => return Err(wrong("a number")),
        (Value::String(base), Value::String(over)) => *base = over,
        // `--set image.tag=1.2` is a number to YAML.
        (Value::String(base), Value::Number(over)) => *base = over.to_string(),
        (Value::String(_), _) => return Err(wrong("a text")),
        (base, over) => *base = over,
    }
    Ok(())
}
