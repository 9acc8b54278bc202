//! `vzmaster export k8s`: plain manifests for those who outgrow this.

use std::process::ExitCode;

use anyhow::{Context, anyhow};
use serde_json::{Value, json};

use super::directory;
use super::gather::open_bundles;
use crate::cli::master::{Args, Export};
use crate::fleet::kubernetes::{export, json_of};
use crate::fleet::yaml::{self, write};
use crate::push::outcome::short;
use crate::report::{self, Status};

pub(super) fn run(args: &Args, wish: &Export) -> anyhow::Result<ExitCode> {
    let fleet = directory::read_right(args, &wish.select.limit)?;
    let bundles = open_bundles(&args.directory, &fleet.deployment)?;
    let image = |bundle: &str| {
        let registry = wish.registry.trim_end_matches('/');
        match bundles.get(bundle) {
            Some((_, built)) => format!("{registry}/{}:{}", built.name, short(&built.id)),
            None => format!("{registry}/{bundle}"),
        }
    };
    let mut objects: Vec<Value> = Vec::new();
    for text in directory::pod_texts(args)? {
        for document in &yaml::parse(&text).map_err(|error| anyhow!("{error}"))? {
            let value = json_of(document);
            let name = value.pointer("/metadata/name").and_then(Value::as_str);
            let name = name.context("a pod has no name")?;
            let hosts: Vec<String> = fleet
                .deployment
                .hosts
                .iter()
                .filter(|(_, host)| host.pods.contains_key(name))
                .map(|(host, _)| host.clone())
                .collect();
            if hosts.is_empty() {
                report::say("vzmaster", format!("{name}: left out: it runs on no host"));
                continue;
            }
            let exported = export(document, &hosts, &image);
            objects.extend(exported.objects);
            for note in exported.notes {
                report::say("vzmaster", note);
            }
        }
    }
    if args.ssh.json {
        report::json(&json!({ "apiVersion": "v1", "kind": "List", "items": objects }))?;
    } else {
        let texts: Vec<String> = objects.iter().map(|o| write::text(o, &|_| "")).collect();
        report::data(texts.join("---\n").as_bytes())?;
    }
    Ok(Status::Done.into())
}
