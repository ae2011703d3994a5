//! How to answer a request, asked for in its query (`?delay=200ms&status=503`) or in headers (`x-echo-delay:
//! 200ms`), on top of what the settings say. Keys that mean nothing here are left alone: queries and headers
//! carry other things too.

use std::time::Duration;

use http::{HeaderMap, StatusCode, Uri};

use crate::settings::ServeSettings;
use crate::units::{parse_duration, parse_share};

const HEADER_PREFIX: &str = "x-echo-";
/// Longest body that can be asked for, in bytes.
const MAX_SIZE: usize = 256 << 20;

/// How one request is answered.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Behaviour {
    /// `delay=200ms`: wait before the answer.
    pub delay: Duration,
    /// `status=503`: answer with this status.
    pub status: Option<StatusCode>,
    /// `fail-rate=0.3`: answer this share with 500.
    pub fail_rate: f64,
    /// `size=65536`: a body of exactly so many bytes instead of the report.
    pub size: Option<usize>,
    /// `stream=5`: so many chunks instead of the report.
    pub stream: Option<usize>,
    /// `interval=20ms`: pause between chunks.
    pub interval: Duration,
    /// `close=1`: close the connection without an answer (HTTP/2: reset the stream).
    pub close: bool,
    /// `trailers=1`: end the body with trailers.
    pub trailers: bool,
    /// `hold`: never answer.
    pub hold: bool,
    /// `echo=1`: answer with the request's body.
    pub echo: bool,
}

impl Behaviour {
    /// What the settings ask for.
    pub(crate) fn from_settings(settings: &ServeSettings) -> Self {
        Self {
            delay: settings.delay,
            status: None,
            fail_rate: settings.fail_rate,
            size: None,
            stream: None,
            interval: Duration::ZERO,
            close: false,
            trailers: false,
            hold: false,
            echo: false,
        }
    }

    /// Adds what one request asks for; an error names the key.
    pub(crate) fn asked_by(mut self, uri: &Uri, headers: &HeaderMap) -> Result<Self, String> {
        for pair in uri.query().unwrap_or_default().split('&') {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            self.set(key, value)?;
        }
        for (name, value) in headers {
            let Some(key) = name.as_str().strip_prefix(HEADER_PREFIX) else { continue };
            self.set(key, value.to_str().map_err(|_| format!("{name}: not text"))?)?;
        }
        Ok(self)
    }

    fn set(&mut self, key: &str, value: &str) -> Result<(), String> {
        let explain = |error: String| format!("{key}: {error}");
        match key {
            "delay" => self.delay = parse_duration(value).map_err(explain)?,
            "interval" => self.interval = parse_duration(value).map_err(explain)?,
            "status" => self.status = Some(value.parse().map_err(|_| format!("status: {value:?} is none"))?),
            "fail-rate" => self.fail_rate = parse_share(value).map_err(explain)?,
            "size" => self.size = Some(parse_count(value).map_err(explain)?),
            "stream" => self.stream = Some(parse_count(value).map_err(explain)?),
            "close" => self.close = is_on(value),
            "trailers" => self.trailers = is_on(value),
            "hold" => self.hold = is_on(value),
            "echo" => self.echo = is_on(value),
            _ => {}
        }
        Ok(())
    }
}

fn parse_count(value: &str) -> Result<usize, String> {
    match value.parse() {
        Ok(count) if count <= MAX_SIZE => Ok(count),
        _ => Err(format!("{value:?} is not a number up to {MAX_SIZE}")),
    }
}

fn is_on(value: &str) -> bool {
    !matches!(value, "0" | "false")
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Wrapper {
        #[command(flatten)]
        settings: ServeSettings,
    }

    fn asked(uri: &str, headers: HeaderMap) -> Result<Behaviour, String> {
        let settings = Wrapper::parse_from(["mesh-echo", "--delay", "1s"]).settings;
        Behaviour::from_settings(&settings).asked_by(&uri.parse().unwrap(), &headers)
    }

    #[test]
    fn the_query_overrides_the_settings() {
        let behaviour = asked("/x?delay=20ms&status=503&hold&user=7", HeaderMap::new()).unwrap();
        assert_eq!(behaviour.delay, Duration::from_millis(20));
        assert_eq!(behaviour.status, Some(StatusCode::SERVICE_UNAVAILABLE));
        assert!(behaviour.hold && !behaviour.close);
        assert_eq!(asked("/x", HeaderMap::new()).unwrap().delay, Duration::from_secs(1));
    }

    #[test]
    fn headers_say_the_same_as_the_query() {
        let headers = HeaderMap::from_iter([("x-echo-size".parse().unwrap(), "9".parse().unwrap())]);
        assert_eq!(asked("/", headers).unwrap().size, Some(9));
    }

    #[test]
    fn a_bad_value_names_its_key() {
        assert!(asked("/?size=many", HeaderMap::new()).unwrap_err().starts_with("size"));
        assert!(asked("/?status=9", HeaderMap::new()).unwrap_err().starts_with("status"));
    }
}
