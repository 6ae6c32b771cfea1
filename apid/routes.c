/* The route table: every path that apid answers, who may ask, how large a body may be and which handler runs. Data
 * only; router.c reads it. Each row is described in openapi.json: the build fails where they differ. */
#include "apid/handlers.h"
#include "apid/router.h"

#define DELETE_BODY (1 << 20) /* {"ids":[…]}: 1,000 ids are 40 KB */
#define JSON_BODY (1 << 20)
#define SECRET_BODY 16384 /* addresses and passwords */
#define MESSAGE_BODY (40 << 20) /* a message of 25 MB and its base64 or multipart dress */

/* GET rows take a body of this size and ignore it: RFC 9110 9.3.1 allows clients to send one. */
#define IGNORED_BODY 4096

#define MEMBER "/members/{}"
#define MAILBOX "/mailboxes/{}"
#define MAILS MAILBOX "/mails"
#define MAIL MAILS "/{}"
#define ATTACHMENTS MAIL "/attachments"
#define ATTACHMENT ATTACHMENTS "/{}"

const struct route ROUTES[] = {
    {METHOD_GET, "/health", ROUTE_OPEN, IGNORED_BODY, api_health, true},
    {METHOD_GET, "/healthz", ROUTE_OPEN, IGNORED_BODY, api_health, true},
    {METHOD_GET, "/livez", ROUTE_OPEN, IGNORED_BODY, api_health, true},
    {METHOD_GET, "/ready", ROUTE_OPEN, IGNORED_BODY, api_ready, true},
    {METHOD_GET, "/readyz", ROUTE_OPEN, IGNORED_BODY, api_ready, true},
    {METHOD_GET, "/openapi.json", ROUTE_OPEN, IGNORED_BODY, api_openapi, true},
    {METHOD_GET, "/docs", ROUTE_OPEN, IGNORED_BODY, api_docs, true},

    {METHOD_POST, "/auth/login", ROUTE_OPEN, SECRET_BODY, api_login, false},
    {METHOD_GET, "/auth/session", ROUTE_CONSOLE, IGNORED_BODY, api_session, false},
    {METHOD_POST, "/auth/password", ROUTE_CONSOLE, SECRET_BODY, api_password, false},
    {METHOD_POST, "/auth/logout", ROUTE_CONSOLE, IGNORED_BODY, api_logout, false},
    {METHOD_POST, "/auth/logout-everywhere", ROUTE_CONSOLE, IGNORED_BODY, api_logout_everywhere, false},
    {METHOD_GET, "/auth/signup", ROUTE_OPEN, IGNORED_BODY, api_signup_get, false},
    {METHOD_POST, "/auth/signup", ROUTE_OPEN, SECRET_BODY, api_signup, false},
    {METHOD_POST, "/auth/reset", ROUTE_OPEN, SECRET_BODY, api_reset, false},
    {METHOD_POST, "/auth/accept-invitation", ROUTE_OPEN, SECRET_BODY, api_accept_invitation, false},

    {METHOD_GET, "/members", ROUTE_KEY, IGNORED_BODY, api_member_list, false},
    {METHOD_GET, MEMBER, ROUTE_KEY, IGNORED_BODY, api_member_get, false},
    {METHOD_PATCH, MEMBER, ROUTE_KEY, JSON_BODY, api_member_patch, false, "team", true},
    {METHOD_DELETE, MEMBER, ROUTE_KEY, IGNORED_BODY, api_member_delete, false, "team", true},
    {METHOD_GET, MEMBER "/mailboxes", ROUTE_KEY, IGNORED_BODY, api_member_mailboxes, false, NULL, true},
    {METHOD_GET, "/invitations", ROUTE_KEY, IGNORED_BODY, api_invitation_list, false, NULL, true},
    {METHOD_POST, "/invitations", ROUTE_KEY, SECRET_BODY, api_invitation_create, false, "team", true},
    {METHOD_DELETE, "/invitations/{}", ROUTE_KEY, IGNORED_BODY, api_invitation_delete, false, "team", true},

    {METHOD_GET, "/mailboxes", ROUTE_KEY, IGNORED_BODY, api_mailbox_list, false},
    {METHOD_POST, "/mailboxes", ROUTE_KEY, JSON_BODY, api_mailbox_create, false},
    {METHOD_DELETE, "/mailboxes", ROUTE_KEY, DELETE_BODY, api_mailbox_delete_many, false},
    {METHOD_GET, MAILBOX, ROUTE_KEY, IGNORED_BODY, api_mailbox_get, false},
    {METHOD_PATCH, MAILBOX, ROUTE_KEY, JSON_BODY, api_mailbox_patch, false},
    {METHOD_DELETE, MAILBOX, ROUTE_KEY, IGNORED_BODY, api_mailbox_delete, false},

    {METHOD_GET, "/archived-mailboxes", ROUTE_KEY, IGNORED_BODY, api_archived_list, false},
    {METHOD_DELETE, "/archived-mailboxes", ROUTE_KEY, DELETE_BODY, api_archived_delete_many, false},
    {METHOD_GET, "/archived-mailboxes/{}", ROUTE_KEY, IGNORED_BODY, api_archived_get, false},
    {METHOD_DELETE, "/archived-mailboxes/{}", ROUTE_KEY, IGNORED_BODY, api_archived_delete, false},
    {METHOD_POST, "/archived-mailboxes/{}/reactivate", ROUTE_KEY, JSON_BODY, api_archived_reactivate, false},

    {METHOD_GET, "/usage", ROUTE_KEY, IGNORED_BODY, api_usage_get, false},
    {METHOD_GET, "/audit", ROUTE_KEY, IGNORED_BODY, api_audit_list, false},

    {METHOD_GET, MAILS, ROUTE_KEY, IGNORED_BODY, api_mail_list, false},
    {METHOD_POST, MAILS, ROUTE_KEY, MESSAGE_BODY, api_mail_inject, false},
    {METHOD_DELETE, MAILS, ROUTE_KEY, DELETE_BODY, api_mail_delete_many, false},
    {METHOD_GET, MAIL, ROUTE_KEY, IGNORED_BODY, api_mail_get, false},
    {METHOD_DELETE, MAIL, ROUTE_KEY, IGNORED_BODY, api_mail_delete, false},
    {METHOD_GET, MAIL "/raw", ROUTE_KEY, IGNORED_BODY, api_mail_raw, false},
    {METHOD_GET, MAIL "/headers", ROUTE_KEY, IGNORED_BODY, api_mail_headers, false},

    {METHOD_GET, ATTACHMENTS, ROUTE_KEY, IGNORED_BODY, api_attachment_list, false},
    {METHOD_POST, ATTACHMENTS, ROUTE_KEY, MESSAGE_BODY, api_attachment_add, false},
    {METHOD_DELETE, ATTACHMENTS, ROUTE_KEY, DELETE_BODY, api_attachment_delete_many, false},
    {METHOD_GET, ATTACHMENT, ROUTE_KEY, IGNORED_BODY, api_attachment_get, false},
    {METHOD_DELETE, ATTACHMENT, ROUTE_KEY, IGNORED_BODY, api_attachment_delete, false},

    {METHOD_GET, "/domains", ROUTE_KEY, IGNORED_BODY, api_domain_list, false},
    {METHOD_POST, "/domains", ROUTE_KEY, JSON_BODY, api_domain_create, false, "domains"},
    {METHOD_GET, "/domains/{}", ROUTE_KEY, IGNORED_BODY, api_domain_get, false},
    {METHOD_DELETE, "/domains/{}", ROUTE_KEY, IGNORED_BODY, api_domain_delete, false, "domains", true},
    {METHOD_POST, "/domains/{}/verify", ROUTE_KEY, JSON_BODY, api_domain_verify, false, "domains"},

    {METHOD_GET, "/keys", ROUTE_CONSOLE, IGNORED_BODY, api_key_list, false},
    {METHOD_POST, "/keys", ROUTE_CONSOLE, JSON_BODY, api_key_create, false},
    {METHOD_GET, "/keys/{}", ROUTE_CONSOLE, IGNORED_BODY, api_key_get, false},
    {METHOD_PATCH, "/keys/{}", ROUTE_CONSOLE, JSON_BODY, api_key_patch, false},
    {METHOD_DELETE, "/keys/{}", ROUTE_CONSOLE, IGNORED_BODY, api_key_delete, false},
    {METHOD_POST, "/keys/{}/regenerate", ROUTE_CONSOLE, IGNORED_BODY, api_key_regenerate, false},
    {METHOD_POST, "/keys/{}/revoke", ROUTE_CONSOLE, IGNORED_BODY, api_key_revoke, false},
    {METHOD_GET, "/keys/{}/domains", ROUTE_CONSOLE, IGNORED_BODY, api_key_domains, false},
    {0},
};
