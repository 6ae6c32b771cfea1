/* The handlers of the ROUTES table, one declaration per row; each lives in the api_ file named after its resource. A
 * handler runs once its request's key has been accepted (ROUTE_KEY) and its body is whole; it answers exactly once,
 * now or later (request.h). */
#ifndef MINUTEMAIL_HANDLERS_H
#define MINUTEMAIL_HANDLERS_H

struct request;

/* api_health.c */
void api_health(struct request *);
void api_ready(struct request *);

/* api_docs.c */
void api_openapi(struct request *);
void api_docs(struct request *);

/* api_mailboxes.c */
void api_mailbox_create(struct request *);
void api_mailbox_list(struct request *);
void api_mailbox_delete_many(struct request *);
void api_mailbox_get(struct request *);
void api_mailbox_patch(struct request *);
void api_mailbox_delete(struct request *);

/* api_archived.c */
void api_audit_list(struct request *);
void api_usage_get(struct request *);
void api_archived_list(struct request *);
void api_archived_delete_many(struct request *);
void api_archived_get(struct request *);
void api_archived_delete(struct request *);
void api_archived_reactivate(struct request *);

/* api_mails.c, api_source.c */
void api_mail_list(struct request *);
void api_mail_inject(struct request *);
void api_mail_delete_many(struct request *);
void api_mail_get(struct request *);
void api_mail_delete(struct request *);
void api_mail_raw(struct request *);
void api_mail_headers(struct request *);

/* api_attachments.c */
void api_attachment_list(struct request *);
void api_attachment_add(struct request *);
void api_attachment_delete_many(struct request *);
void api_attachment_get(struct request *);
void api_attachment_delete(struct request *);

/* api_auth.c */
void api_login(struct request *);
void api_session(struct request *);
void api_password(struct request *);
void api_logout(struct request *);
void api_logout_everywhere(struct request *);

/* api_signup.c */
void api_signup(struct request *);
void api_signup_get(struct request *);
void api_accept_invitation(struct request *);
void api_reset(struct request *);

/* api_members.c, api_invitations.c */
void api_member_list(struct request *);
void api_member_get(struct request *);
void api_member_patch(struct request *);
void api_member_delete(struct request *);
void api_member_mailboxes(struct request *);
void api_invitation_list(struct request *);
void api_invitation_create(struct request *);
void api_invitation_delete(struct request *);

/* api_domains.c, api_domain_verify.c */
void api_domain_list(struct request *);
void api_domain_create(struct request *);
void api_domain_get(struct request *);
void api_domain_delete(struct request *);
void api_domain_verify(struct request *);

/* api_keys.c */
void api_key_list(struct request *);
void api_key_create(struct request *);
void api_key_get(struct request *);
void api_key_patch(struct request *);
void api_key_delete(struct request *);
void api_key_regenerate(struct request *);
void api_key_revoke(struct request *);
void api_key_domains(struct request *);

#endif
