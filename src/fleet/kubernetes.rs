//! A pod as what Kubernetes runs in its place. Pure.
//!
//! What the file says is kept as it is, since it is Kubernetes' own language: only
//! images, and the places that groups.yaml names, are written in its words.

use serde_json::{Map, Value, json};

use super::yaml::{self, Node, not_a_string};

/// What a pod became, and what has to be done by hand.
#[derive(Clone, Debug, PartialEq)]
pub struct Exported {
    /// The objects.
    pub objects: Vec<Value>,
    /// What is not the same, or is left to do.
    pub notes: Vec<String>,
}

/// A document as JSON, each scalar as Kubernetes' reader of YAML takes it.
pub fn json_of(node: &Node) -> Value {
    match &node.value {
        yaml::Value::Quoted(text) => Value::from(text.as_str()),
        yaml::Value::Plain(text) => plain(text),
        yaml::Value::List(items) => items.iter().map(json_of).collect(),
        yaml::Value::Map(entries) => {
            entries.iter().map(|(key, node)| (key.text.clone(), json_of(node))).collect()
        }
    }
}

fn plain(text: &str) -> Value {
    match (not_a_string(text), text) {
        (Some("null"), _) => Value::Null,
        (_, "true") => Value::Bool(true),
        (_, "false") => Value::Bool(false),
        // What can be read in two ways was refused where it mattered.
        (Some("a number"), _) => {
            text.parse::<i64>().map_or_else(|_| Value::from(text), Value::from)
        }
        _ => Value::from(text),
    }
}

/// Exports the pod of a document to these hosts; `image` gives the name of the image
/// that is made of a bundle.
///
/// A pod that is always started again becomes a DaemonSet on exactly these nodes; one
/// that ends, a Pod for each.
pub fn export(document: &Node, hosts: &[String], image: &dyn Fn(&str) -> String) -> Exported {
    let mut pod = json_of(document);
    let mut notes = Vec::new();
    let name = pod.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default().to_owned();
    let containers = pod.pointer_mut("/spec/containers").and_then(Value::as_array_mut);
    for container in containers.into_iter().flatten().filter_map(Value::as_object_mut) {
        let bundle = container.get("image").and_then(Value::as_str).unwrap_or_default();
        if let Some(bundle) = bundle.strip_prefix("bundle:") {
            let made = image(bundle);
            notes.push(format!(
                "{name}: push the image {made}: vzbuild image {bundle} -o oci-archive:FILE --ref {made}"
            ));
            container.insert("image".to_owned(), json!(made));
        }
        // Nothing puts images onto nodes there but a pull.
        container.insert("imagePullPolicy".to_owned(), json!("IfNotPresent"));
    }
    let volumes = pod.pointer("/spec/volumes").and_then(Value::as_array).into_iter().flatten();
    let secrets = volumes.filter_map(|v| v.pointer("/secret/secretName").and_then(Value::as_str));
    notes.extend(secrets.map(|secret| {
        format!("{name}: make the Secret `{secret}`: kubectl create secret generic {secret} --from-file=...")
    }));
    if let Some(annotations) =
        pod.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut)
    {
        annotations.retain(|key, value| {
            let ours = key.starts_with("vz/");
            if ours {
                notes.push(format!(
                    "{name}: left out: {key}: {}",
                    value.as_str().unwrap_or_default()
                ));
            }
            !ours
        });
    }
    let always = pod.pointer("/spec/restartPolicy").is_none_or(|policy| policy == "Always");
    let objects = match always {
        true => vec![daemon_set(&pod, &name, hosts)],
        false => hosts.iter().map(|host| single(&pod, &name, host)).collect(),
    };
    Exported { objects, notes }
}

/// The nodes are chosen by the label that kubelets give them.
fn affinity(hosts: &[String]) -> Value {
    let expression = json!({ "key": "kubernetes.io/hostname", "operator": "In", "values": hosts });
    let terms = json!({ "nodeSelectorTerms": [{ "matchExpressions": [expression] }] });
    json!({ "nodeAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": terms } })
}

fn metadata(pod: &Value) -> Map<String, Value> {
    let metadata = pod.get("metadata").and_then(Value::as_object);
    let empty = |value: &Value| value.as_object().is_some_and(Map::is_empty);
    let kept = metadata.into_iter().flatten().filter(|(_, value)| !empty(value));
    kept.map(|(key, value)| (key.clone(), value.clone())).collect()
}

fn daemon_set(pod: &Value, name: &str, hosts: &[String]) -> Value {
    let mut template = metadata(pod);
    template.remove("name");
    let labels = template.entry("labels").or_insert_with(|| json!({}));
    if let Some(labels) = labels.as_object_mut() {
        labels.insert("app.kubernetes.io/name".to_owned(), json!(name));
    }
    let mut spec = pod.get("spec").cloned().unwrap_or_default();
    if let Some(spec) = spec.as_object_mut() {
        spec.insert("affinity".to_owned(), affinity(hosts));
    }
    json!({
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": { "name": name },
        "spec": {
            "selector": { "matchLabels": { "app.kubernetes.io/name": name } },
            "template": { "metadata": template, "spec": spec },
        },
    })
}

fn single(pod: &Value, name: &str, host: &String) -> Value {
    let mut pod = pod.clone();
    let mut metadata = metadata(&pod);
    metadata.insert("name".to_owned(), json!(format!("{name}-{host}")));
    if let Some(pod) = pod.as_object_mut() {
        pod.insert("metadata".to_owned(), Value::Object(metadata));
    }
    if let Some(spec) = pod.get_mut("spec").and_then(Value::as_object_mut) {
        spec.insert("affinity".to_owned(), affinity(std::slice::from_ref(host)));
    }
    pod
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::yaml::write;

    const POD: &str = "\
apiVersion: v1
kind: Pod
metadata: {name: site, labels: {tier: web}, annotations: {vz/stop-signal.nginx: SIGQUIT}}
spec:
  hostNetwork: true
  terminationGracePeriodSeconds: 10
  volumes: [{name: tls, secret: {secretName: site-tls}}]
  containers:
  - name: nginx
    image: bundle:bundles/nginx
    imagePullPolicy: Never
    args: ['1', -v]
    ports: [{containerPort: 8080}]
    volumeMounts: [{name: tls, mountPath: /tls, readOnly: true}]
";

    fn exported(text: &str) -> Exported {
        let documents = yaml::parse(text).unwrap();
        let hosts = ["a".to_owned(), "b".to_owned()];
        export(&documents[0], &hosts, &|bundle| format!("reg.example/{}:1", &bundle[8..]))
    }

    #[test]
    fn a_pod_becomes_a_daemon_set_on_the_same_nodes() {
        let Exported { objects, notes } = exported(POD);
        let text = write::text(&objects[0], &|_| "");
        assert_eq!(text, include_str!("../../testdata/kubernetes/site.yaml"));
        let expected = [
            "site: push the image reg.example/nginx:1: vzbuild image bundles/nginx -o oci-archive:FILE --ref reg.example/nginx:1",
            "site: make the Secret `site-tls`: kubectl create secret generic site-tls --from-file=...",
            "site: left out: vz/stop-signal.nginx: SIGQUIT",
        ];
        assert_eq!(notes, expected);
    }

    #[test]
    fn a_pod_that_ends_is_a_pod_for_each_node() {
        let text = POD.replace("spec:\n", "spec:\n  restartPolicy: Never\n");
        let objects = exported(&text).objects;
        let names: Vec<&Value> = objects.iter().map(|o| &o["metadata"]["name"]).collect();
        assert_eq!(names, [&json!("site-a"), &json!("site-b")]);
        assert_eq!(objects[1]["kind"], "Pod");
        let values = "/spec/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution/nodeSelectorTerms/0/matchExpressions/0/values";
        assert_eq!(objects[1].pointer(values), Some(&json!(["b"])));
    }
}
