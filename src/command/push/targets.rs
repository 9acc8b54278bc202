//! From TARGETs to nodes.

use std::path::Path;

use anyhow::{Context, anyhow};

use crate::process;
use crate::push::inventory::Inventory;
use crate::push::target::{Node, Target};
use crate::report::{Advice, Status};

const FORMS: &str =
    "a target is an alias of ssh_config, user@host[:port], or @group of an inventory";

/// The nodes that `texts` name, each once, in order.
pub(in crate::command) fn resolve(
    texts: &[String],
    inventory: Option<&Path>,
) -> anyhow::Result<Vec<Node>> {
    let usage = Status::Usage as u8;
    let mut nodes: Vec<Node> = Vec::new();
    let mut read = None;
    for text in texts {
        let found = match Target::parse(text).hint(FORMS).status(usage)? {
            Target::Node(node) => vec![node],
            Target::Group(group) => {
                if read.is_none() {
                    let path = inventory
                        .ok_or_else(|| anyhow!("`{text}` is a group, and there is no inventory"))
                        .hint("name one with -i INVENTORY")
                        .status(usage)?;
                    read = Some((path, load(path)?));
                }
                let Some((path, inventory)) = &read else { continue };
                let nodes = inventory.nodes(&group);
                nodes.with_context(|| format!("cannot use `{}`", path.display())).status(usage)?
            }
        };
        for node in found {
            if !nodes.contains(&node) {
                nodes.push(node);
            }
        }
    }
    if nodes.is_empty() {
        return Err(anyhow!("the targets name no node")).status(usage);
    }
    Ok(nodes)
}

/// One node, for the verbs.
pub(super) fn one(text: &str) -> anyhow::Result<Node> {
    match Target::parse(text).hint(FORMS).status(Status::Usage as u8)? {
        Target::Node(node) => Ok(node),
        Target::Group(_) => {
            Err(anyhow!("`{text}` is a group, and one node is meant")).status(Status::Usage as u8)
        }
    }
}

/// Reads an inventory: with Ansible's own reader where it is installed and the file
/// is one that only it understands, else here.
pub(in crate::command) fn load(path: &Path) -> anyhow::Result<Inventory> {
    let shown = path.display();
    let ending = path.extension().and_then(|e| e.to_str()).unwrap_or_default();
    let executable = nix::unistd::access(path, nix::unistd::AccessFlags::X_OK).is_ok();
    if path.is_dir() || executable {
        let mut ansible = process::command("ansible-inventory");
        ansible.arg("-i").arg(path).arg("--list");
        let json = process::output(&mut ansible)
            .with_context(|| format!("cannot read the inventory `{shown}`"))
            .hint("folders and programs as inventories need `ansible-inventory` (package ansible-core)")?;
        let json = String::from_utf8_lossy(&json).into_owned();
        return Inventory::parse(&json, true).map(Inventory::generated).with_context(|| {
            format!("cannot understand what `ansible-inventory` made of `{shown}`")
        });
    }
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("cannot read the inventory `{shown}`"))
        .status(Status::Usage as u8)?;
    let yaml = matches!(ending, "yml" | "yaml" | "json");
    Inventory::parse(&text, yaml)
        .with_context(|| format!("cannot understand the inventory `{shown}`"))
        .status(Status::Usage as u8)
}
