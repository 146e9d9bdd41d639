//! `ipns config`.

use ipns_server::{Failure, exit};
use serde_json::json;

use crate::settings::Settings;
use crate::{output, store};

pub(crate) fn show(settings: &Settings) -> Result<u8, Failure> {
    let mut file = settings.file.clone();
    // Where this cannot be told, the commands that need to know it say why.
    file.store = file.store.or_else(|| store::choose(settings).ok());
    if settings.json {
        output::document(&json!({ "home": settings.home, "settings": file }))?;
        return Ok(0);
    }
    let text = toml::to_string(&file).map_err(|error| Failure::new(exit::FAILED, "config", error.to_string()))?;
    output::line(format!("# home: {}\n{}", settings.home.display(), text.trim_end()))?;
    Ok(0)
}
