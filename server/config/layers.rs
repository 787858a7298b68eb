//! Where settings come from, and whose fault an error is.

use std::{fmt, fs, io, path::Path, path::PathBuf};

use figment::{
    Figment,
    error::Kind,
    providers::{Format, Toml},
};

use super::Config;
use crate::args::ServeArgs;

/// Read when no `--config` is given and it is there.
const DEFAULT_FILE: &str = "trivium.toml";
/// What the names of our environment variables begin with.
const PREFIX: &str = "TRIVIUM_";

/// Everything that was set, lowest layer first.
pub struct Layers(Vec<Layer>);

struct Layer {
    source: Source,
    values: Figment,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Source {
    File(PathBuf),
    Environment,
    Flags,
}

/// A setting that cannot be used; one line naming the key and the layer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(String);

impl Layers {
    /// The layers of this process.
    pub fn of_process(args: &ServeArgs) -> Result<Layers, ConfigError> {
        let environment =
            std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value)));
        let environment =
            environment.map(|(name, value)| (name, value.to_string_lossy().into_owned()));
        Layers::new(args, environment)
    }

    /// The file that `args` names, `environment`, and `args` themselves.
    pub fn new(
        args: &ServeArgs,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Layers, ConfigError> {
        let mut layers = Vec::new();
        layers.extend(file(args.config.as_deref())?);
        layers.push(Layer::new(
            Source::Environment,
            environment.into_iter().filter_map(variable),
        ));
        layers.push(Layer::new(Source::Flags, flags(args)));
        Ok(Layers(layers))
    }

    /// The configuration that all layers make together.
    pub fn config(self) -> Result<Config, ConfigError> {
        let merged = self
            .0
            .iter()
            .fold(Figment::new(), |all, layer| all.merge(&layer.values));
        let config: Config = merged.extract().map_err(|error| self.blame(error))?;
        match (&config.default_user, &config.default_pass) {
            (Some(_), None) => Err(self.half("default_user", "default_pass")),
            (None, Some(_)) => Err(self.half("default_pass", "default_user")),
            _ => match config.kafka.group.bounds() {
                Ok(_) => Ok(config),
                Err(text) => Err(ConfigError(text)),
            },
        }
    }

    fn blame(&self, error: figment::Error) -> ConfigError {
        let mut path = error.path.clone();
        if let Kind::UnknownField(field, _) = &error.kind
            && path.last() != Some(field)
        {
            path.push(field.clone());
        }
        let key = path.join(".");
        let place = self.place(&key);
        ConfigError(match error.kind {
            Kind::UnknownField(_, expected) => {
                format!(
                    "unknown key '{key}' in {place}; known here: {}",
                    expected.join(", ")
                )
            }
            Kind::InvalidType(actual, _) => {
                format!("bad value for '{key}' in {place}: {actual}, expected a table")
            }
            Kind::Message(text) => format!("bad value for '{key}' in {place}: {text}"),
            kind => format!("bad value for '{key}' in {place}: {kind}"),
        })
    }

    fn half(&self, present: &str, missing: &str) -> ConfigError {
        ConfigError(format!(
            "'{present}' is set in {}, but '{missing}' is not set",
            self.place(present)
        ))
    }

    /// The layer whose value of `key` counts, as a user would name it.
    fn place(&self, key: &str) -> String {
        let layer = self
            .0
            .iter()
            .rev()
            .find(|layer| layer.values.find_value(key).is_ok());
        match layer.map(|layer| &layer.source) {
            Some(Source::File(path)) => format!("file {}", path.display()),
            Some(Source::Environment) => format!("environment variable {}", variable_name(key)),
            Some(Source::Flags) => format!("flag {}", flag_name(key)),
            None => "the configuration".to_owned(),
        }
    }
}

impl Layer {
    fn new(source: Source, values: impl Iterator<Item = (String, String)>) -> Layer {
        Layer {
            source,
            values: values.fold(Figment::new(), |all, pair| all.merge(pair)),
        }
    }
}

fn file(named: Option<&Path>) -> Result<Option<Layer>, ConfigError> {
    let path = named.unwrap_or(Path::new(DEFAULT_FILE));
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound && named.is_none() => {
            return Ok(None);
        }
        Err(error) => {
            return Err(ConfigError(format!(
                "cannot read file {}: {error}",
                path.display()
            )));
        }
    };
    let values = Figment::from(Toml::string(&text));
    match values.extract::<figment::value::Dict>() {
        Ok(_) => Ok(Some(Layer {
            source: Source::File(path.to_owned()),
            values,
        })),
        Err(error) => Err(ConfigError(format!(
            "file {} is not TOML: {}",
            path.display(),
            one_line(&error.kind)
        ))),
    }
}

/// The first and the last line of a parser's error: the place and the reason, without the excerpt between them.
fn one_line(error: &impl fmt::Display) -> String {
    let text = error.to_string();
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    match (lines.next(), lines.next_back()) {
        (Some(first), Some(last)) => format!("{first}: {last}"),
        (first, _) => first.unwrap_or_default().to_owned(),
    }
}

/// `TRIVIUM_AMQP__LISTEN` is `amqp.listen`.
fn variable((name, value): (String, String)) -> Option<(String, String)> {
    let key = name.strip_prefix(PREFIX)?;
    Some((key.to_ascii_lowercase().replace("__", "."), value))
}

fn variable_name(key: &str) -> String {
    format!("{PREFIX}{}", key.to_ascii_uppercase().replace('.', "__"))
}

fn flags(args: &ServeArgs) -> impl Iterator<Item = (String, String)> {
    let data_dir = args
        .data_dir
        .as_ref()
        .map(|path| ("data_dir".to_owned(), path.to_string_lossy().into_owned()));
    args.set.iter().cloned().chain(data_dir)
}

fn flag_name(key: &str) -> String {
    if key == "data_dir" {
        "--data-dir".to_owned()
    } else {
        format!("--set {key}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Durability;

    fn load(
        file: &str,
        environment: &[(&str, &str)],
        set: &[(&str, &str)],
    ) -> Result<Config, String> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("t.toml");
        fs::write(&path, file).unwrap();
        let pairs = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
            pairs
                .iter()
                .map(|&(key, value)| (key.into(), value.into()))
                .collect()
        };
        let args = ServeArgs {
            config: Some(path.clone()),
            data_dir: None,
            set: pairs(set),
        };
        let loaded = Layers::new(&args, pairs(environment)).and_then(Layers::config);
        loaded.map_err(|error| error.to_string().replace(&*path.to_string_lossy(), "FILE"))
    }

    fn error(file: &str, environment: &[(&str, &str)], set: &[(&str, &str)]) -> String {
        load(file, environment, set).unwrap_err()
    }

    #[test]
    fn the_last_layer_wins() {
        let file = "durability = 'os'\n[mqtt]\nlisten = '127.0.0.1:1'\nenabled = false\n[kafka]\npartitions = 3";
        let environment = [
            ("TRIVIUM_MQTT__LISTEN", "127.0.0.1:2"),
            ("TRIVIUM_KAFKA__PARTITIONS", "4"),
            ("HOME", "/"),
        ];
        let config = load(file, &environment, &[("kafka.partitions", "5")]).unwrap();
        assert_eq!(config.durability, Durability::Os);
        assert!(!config.mqtt.enabled);
        assert_eq!(config.mqtt.listen.port(), 2);
        assert_eq!(config.kafka.partitions.get(), 5);
        assert_eq!(config.amqp.listen.port(), 5672);
    }

    #[test]
    fn text_that_looks_like_a_number_stays_text() {
        let environment = [
            ("TRIVIUM_DEFAULT_USER", "7"),
            ("TRIVIUM_DEFAULT_PASS", "007"),
        ];
        assert_eq!(
            load("", &environment, &[]).unwrap().user(),
            Some(("7", "007"))
        );
    }

    #[test]
    fn an_unknown_key_is_named_with_its_layer() {
        let text = error("[amqp]\nlisen = 'x'", &[], &[]);
        assert!(
            text.starts_with("unknown key 'amqp.lisen' in file FILE; known here: enabled, listen"),
            "{text}"
        );
        let text = error("", &[("TRIVIUM_MQTT__PORT", "1")], &[]);
        assert!(
            text.starts_with("unknown key 'mqtt.port' in environment variable TRIVIUM_MQTT__PORT"),
            "{text}"
        );
        let text = error("", &[], &[("colour", "red")]);
        assert!(
            text.starts_with("unknown key 'colour' in flag --set colour"),
            "{text}"
        );
    }

    #[test]
    fn a_bad_value_is_named_with_its_layer() {
        let text = error("[http]\nlisten = 'localhost'", &[], &[]);
        assert_eq!(
            text,
            "bad value for 'http.listen' in file FILE: 'localhost': invalid socket address syntax"
        );
        let text = error("durability = 'os'", &[("TRIVIUM_DURABILITY", "fsync")], &[]);
        assert!(
            text.starts_with(
                "bad value for 'durability' in environment variable TRIVIUM_DURABILITY: 'fsync'"
            ),
            "{text}"
        );
        let text = error("", &[], &[("shards", "0")]);
        assert!(
            text.starts_with("bad value for 'shards' in flag --set shards: '0'"),
            "{text}"
        );
        let text = error("amqp = 5", &[], &[]);
        assert!(
            text.starts_with("bad value for 'amqp' in file FILE"),
            "{text}"
        );
        let text = error("[[shards]]", &[], &[]);
        assert!(
            text.starts_with("bad value for 'shards' in file FILE: expected a single value"),
            "{text}"
        );
    }

    #[test]
    fn a_file_that_is_not_toml_is_one_line() {
        let text = error("durability = 'os'\namqp listen", &[], &[]);
        assert!(
            text.starts_with("file FILE is not TOML: TOML parse error at line 2"),
            "{text}"
        );
        assert_eq!(text.lines().count(), 1);
    }

    #[test]
    fn a_user_needs_a_password() {
        let text = error("", &[("TRIVIUM_DEFAULT_USER", "ann")], &[]);
        assert_eq!(
            text,
            "'default_user' is set in environment variable TRIVIUM_DEFAULT_USER, but 'default_pass' is not set"
        );
    }

    #[test]
    fn a_named_file_must_be_there() {
        let args = ServeArgs {
            config: Some("/nowhere/t.toml".into()),
            ..ServeArgs::default()
        };
        let error = Layers::new(&args, []).err().unwrap();
        assert!(
            error
                .to_string()
                .starts_with("cannot read file /nowhere/t.toml"),
            "{error}"
        );
    }
}
