//! The runtimes that this engine races on.

use std::str::FromStr;

use clap::ValueEnum;
use ipns_core::key::SecretKey;
use ipns_driver::{Builder, Handle};
use ipns_libp2p::{NodeConfig, NodeError};

/// One runtime.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum On {
    Tokio,
    Smol,
    AsyncStd,
}

impl On {
    /// Starts a node there with a network of its own; its handle is no runtime's.
    pub(crate) async fn spawn(self, builder: Builder, key: &SecretKey) -> Result<Handle, NodeError> {
        let config = NodeConfig::default();
        let (node, _) = match self {
            Self::Tokio => ipns_tokio::spawn_with_network(builder, config, key).await?,
            Self::Smol => ipns_smol::spawn_with_network(builder, config, key).await?,
            Self::AsyncStd => ipns_async_std::spawn_with_network(builder, config, key).await?,
        };
        Ok(node)
    }
}

/// Different runtimes, at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Runtimes(Vec<On>);

impl Runtimes {
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Each with what its contestant is called: tokio goes without saying when it is alone, as by default.
    pub(crate) fn labelled(&self) -> impl Iterator<Item = (On, &'static str)> {
        let alone = self.0 == [On::Tokio];
        self.0.iter().map(move |&on| {
            let label = match on {
                On::Tokio if alone => "ipns",
                On::Tokio => "ipns (tokio)",
                On::Smol => "ipns (smol)",
                On::AsyncStd => "ipns (async-std)",
            };
            (on, label)
        })
    }
}

impl FromStr for Runtimes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut all = Vec::new();
        for name in text.split(',') {
            let on = On::from_str(name, false).map_err(|_| format!("{name:?} is not tokio, smol or async-std"))?;
            if all.contains(&on) {
                return Err(format!("{name} is there twice"));
            }
            all.push(on);
        }
        Ok(Self(all))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(text: &str) -> Vec<&'static str> {
        text.parse::<Runtimes>().unwrap().labelled().map(|(_, label)| label).collect()
    }

    #[test]
    fn the_runtime_is_told_unless_there_is_only_tokio() {
        assert_eq!(labels("tokio"), ["ipns"]);
        assert_eq!(labels("smol"), ["ipns (smol)"]);
        assert_eq!(labels("async-std,tokio"), ["ipns (async-std)", "ipns (tokio)"]);
    }

    #[test]
    fn each_runtime_is_there_once_and_known() {
        for wrong in ["", "tokio,", "tokio,tokio", "glommio"] {
            assert!(wrong.parse::<Runtimes>().is_err(), "{wrong}");
        }
    }
}
