//! `ipns config`.

use ipns_server::{Failure, exit};
use serde_json::json;

use crate::output;
use crate::settings::Settings;

pub(crate) fn show(settings: &Settings) -> Result<u8, Failure> {
    if settings.json {
        output::document(&json!({ "home": settings.home, "settings": settings.file }))?;
        return Ok(0);
    }
    let text =
        toml::to_string(&settings.file).map_err(|error| Failure::new(exit::FAILED, "config", error.to_string()))?;
    output::line(format!("# home: {}\n{}", settings.home.display(), text.trim_end()))?;
    Ok(0)
}
