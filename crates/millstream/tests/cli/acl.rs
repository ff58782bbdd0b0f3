//! `acl add|list|remove`.

use serde_json::json;

use crate::harness::Server;

#[test]
fn rules_for_people_and_programs() {
    // Whoever connects here is nobody in particular.
    let server = Server::start(
        "--in-memory --set authorizer.class.name=standard --set super.users=User:ANONYMOUS",
    );
    let head = "PRINCIPAL  MAY    OPERATION  RESOURCE  NAME    HOST\n";
    let ann = "User:ann   allow  read       topic     orders  *\n";
    server.check(&[
        ("acl list", "there are no such rules; `millstream acl add` makes one\n"),
        ("acl add --allow User:ann --operation read --topic orders", &format!("{head}{ann}")),
        (
            "acl add --deny User:* --operation All --group g --prefixed --host 10.0.0.0/8",
            "PRINCIPAL  MAY   OPERATION  RESOURCE  NAME  HOST\n\
             User:*     deny  all        group     g...  10.0.0.0/8\n",
        ),
        ("acl list --principal User:ann", &format!("{head}{ann}")),
        ("acl list --topic orders --matching", &format!("{head}{ann}")),
        ("acl list --topic order", "there are no such rules; `millstream acl add` makes one\n"),
        ("acl remove --topic orders --prefixed", "there are no such rules\n"),
        ("acl remove --topic orders", &format!("removed:\n{head}{ann}")),
    ]);
    let rest = json!([{
        "principal": "User:*", "permission": "deny", "operation": "all", "resource": "group",
        "pattern": "prefixed", "name": "g", "host": "10.0.0.0/8",
    }]);
    assert_eq!(server.cli("acl list --json").json(), rest);
    assert_eq!(server.cli("acl remove --all --json").json(), rest);
    assert_eq!(server.cli("acl list --json").json(), json!([]));
}
