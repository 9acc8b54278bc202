//! Why nothing can be read from a pod or run in it, and what to do then.

use anyhow::anyhow;

use crate::fleet::state::{ContainerState, PodState, State};
use crate::push::target::Node;
use crate::report::Advice;

/// What a node has of `pod`.
///
/// # Errors
/// When it has none, or no such container; the error names what it has.
pub(super) fn find<'a>(
    node: &Node,
    state: &'a State,
    pod: &str,
    container: Option<&str>,
) -> anyhow::Result<&'a PodState> {
    let Some(there) = state.pods.iter().find(|there| there.name == pod) else {
        let has = names(state.pods.iter().map(|there| there.name.as_str()));
        return Err(anyhow!("there is no pod `{pod}` on `{node}`, which has {has}"))
            .hint("`vzmaster plan` says whether it is to be there, `vzmaster ps` where it is");
    };
    match container.filter(|name| !there.containers.iter().any(|c| c.name == *name)) {
        None => Ok(there),
        Some(name) => {
            let has = names(there.containers.iter().map(|container| container.name.as_str()));
            Err(anyhow!("`{pod}` has no container `{name}` on `{node}`; it has {has}"))
        }
    }
}

/// Looks whether a container runs.
///
/// # Errors
/// When it does not.
pub(super) fn runs(node: &Node, pod: &str, container: &ContainerState) -> anyhow::Result<()> {
    let ContainerState { name, active, result, .. } = container;
    let why = match (active.as_str(), result.as_str()) {
        ("active", _) => return Ok(()),
        (active, "" | "success") => active.to_owned(),
        (active, result) => format!("{active}: {result}"),
    };
    Err(anyhow!("`{pod}` does not run on `{node}`: container {name} is {why}")).hint(format!(
        "`vzmaster start {pod} -l {node}` starts it, `vzmaster logs {pod}` has its last lines"
    ))
}

fn names<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<&str> = names.collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::hint_of;

    #[test]
    fn what_is_not_there_is_told_with_what_is() {
        let node = Node { label: "node-a".into(), host: "a".into(), user: None, port: None };
        let container = |name: &str, active: &str, result: &str| ContainerState {
            name: name.into(),
            active: active.into(),
            result: result.into(),
            ..ContainerState::default()
        };
        let containers =
            vec![container("app", "active", "success"), container("db", "failed", "oom-kill")];
        let web = PodState { name: "web".into(), containers, ..PodState::default() };
        let mut state = State { pods: vec![web], ..State::default() };
        let check = |state: &State, pod: &str, container: Option<&str>, expected: &str| {
            assert_eq!(find(&node, state, pod, container).unwrap_err().to_string(), expected);
        };
        check(&state, "x", None, "there is no pod `x` on `node-a`, which has web");
        let expected = "`web` has no container `x` on `node-a`; it has app, db";
        check(&state, "web", Some("x"), expected);
        assert_eq!(find(&node, &state, "web", Some("db")).unwrap().name, "web");
        assert!(runs(&node, "web", &state.pods[0].containers[0]).is_ok());
        let error = runs(&node, "web", &state.pods[0].containers[1]).unwrap_err();
        let expected = "`web` does not run on `node-a`: container db is failed: oom-kill";
        assert_eq!(error.to_string(), expected);
        assert!(hint_of(&error).unwrap().starts_with("`vzmaster start web -l node-a` starts"));
        state.pods.clear();
        check(&state, "x", None, "there is no pod `x` on `node-a`, which has none");
    }
}
