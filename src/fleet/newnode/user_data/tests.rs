use super::*;
use crate::fleet::newnode::provider;
use crate::fleet::newnode::tests::wish;

#[test]
fn cloud_config_has_the_script_as_it_is() {
    let text = render(&wish(), Form::CloudInit, None).unwrap();
    assert!(text.starts_with("#cloud-config\n"));
    let documents = crate::fleet::yaml::parse(&text).unwrap();
    assert_eq!(documents.len(), 1);
    let script = render(&wish(), Form::Sh, None).unwrap();
    let block: String = text
        .lines()
        .skip_while(|line| *line != "- |")
        .skip(1)
        .map(|line| format!("{}\n", line.strip_prefix(' ').unwrap_or(line)))
        .collect();
    assert_eq!(block, script);
    assert!(script.contains("\nguard=0\n"), "nobody is there to call the guard off");
}

#[test]
fn ignition_has_users_with_keys_and_the_script_percent_encoded() {
    let text = render(&wish(), Form::Ignition, None).unwrap();
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(value["ignition"]["version"], "3.4.0");
    assert_eq!(value["passwd"]["users"][1]["name"], "ann");
    let source = value["storage"]["files"][0]["contents"]["source"].as_str().unwrap();
    assert!(source.starts_with("data:,%23%21%2Fbin%2Fsh%0Astage%3Dall%0A"), "{source}");
    assert_eq!(percent("a-1 é\n"), "a-1%20%C3%A9%0A");
}

#[test]
fn what_a_provider_does_not_take_is_refused() {
    for (name, _) in provider::FILES {
        let provider = provider::find(name).unwrap();
        // Three keys, as a small team has.
        let team = Wish { keys: vec![wish().keys[0].clone(); 3], ..wish() };
        for form in [Form::Sh, Form::CloudInit] {
            render(&team, form, Some(&provider)).unwrap();
        }
    }
    let crowd = Wish { keys: vec![wish().keys[0].clone(); 200], ..wish() };
    let aws = provider::find("aws").unwrap();
    let error = render(&crowd, Form::Sh, Some(&aws)).unwrap_err().to_string();
    assert!(error.contains("and Amazon Web Services EC2 takes 16384"), "{error}");
    render(&crowd, Form::Sh, None).unwrap();
}
