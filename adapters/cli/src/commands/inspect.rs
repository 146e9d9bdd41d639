//! `ipns inspect`.

use ipns_core::Name;
use ipns_core::record::{Checks, Inspection};
use ipns_driver::{Clock, SystemClock};
use ipns_server::api::find_name;
use ipns_server::{Failure, exit, report};
use serde_json::Value as Json;

use crate::args::InspectArgs;
use crate::backend::open_keys;
use crate::settings::Settings;
use crate::{files, output};

pub(crate) fn run(settings: &Settings, args: &InspectArgs) -> Result<u8, Failure> {
    let bytes = files::read(&args.file)?;
    let name = args.name.as_deref().map(|text| name(settings, text)).transpose()?;
    let at = args.at.unwrap_or_else(|| SystemClock::default().now().wall);
    let checks = Checks { at, tolerance: settings.file.clock_tolerance.unwrap_or_default() };
    let found = Inspection::new(bytes, name.as_ref(), &checks);
    let document = report::inspection(&found);
    if settings.json {
        output::document(&document)?;
    } else {
        output::line(for_people(&document))?;
    }
    match &found.error {
        None => Ok(0),
        Some(error) => {
            use std::io::Write;
            let _ = writeln!(std::io::stderr(), "error: {error}");
            Ok(exit::INVALID)
        }
    }
}

/// Inspecting needs no home: a key store is only looked into when there is one.
fn name(settings: &Settings, text: &str) -> Result<Name, Failure> {
    match text.parse() {
        Ok(name) => Ok(name),
        Err(_) if settings.home.join("keystore").is_dir() => Ok(find_name(&open_keys(&settings.home)?, text)?.0),
        Err(error) => Err(error.into()),
    }
}

fn for_people(document: &Json) -> String {
    let text = |key: &str| match &document[key] {
        Json::Null => "-".to_owned(),
        Json::String(text) => text.clone(),
        other => other.to_string(),
    };
    let verdict = match &document["error"]["code"] {
        Json::String(code) => format!("no: {code}"),
        _ => "yes".into(),
    };
    let ttl = document["ttl_ns"].as_u64().map(std::time::Duration::from_nanos);
    let ttl = ttl.map_or("-".into(), |ttl| humantime::format_duration(ttl).to_string());
    let key = match &document["public_key"] {
        Json::Null => "-".into(),
        key => format!(
            "{}, {}",
            key["type"].as_str().unwrap_or_default(),
            if key["embedded"] == true { "in the record" } else { "in the name" }
        ),
    };
    let signatures = if document["v1"] == true { "V1 and V2" } else { "V2 only" };
    let mut rows = vec![
        ("Valid", verdict),
        ("Name", text("name")),
        ("Value", text("value")),
        ("Sequence", text("sequence")),
        ("TTL", ttl),
        ("Validity", text("validity")),
        ("Public key", key),
        ("Signatures", signatures.into()),
        ("Size", format!("{} bytes", text("size"))),
    ];
    if document["metadata"].as_object().is_some_and(|entries| !entries.is_empty()) {
        rows.push(("Metadata", text("metadata")));
    }
    rows.iter().map(|(label, value)| format!("{label:<12}{value}")).collect::<Vec<_>>().join("\n")
}
