-- Mail for who is suspended is refused or put off (RFC 3463 X.2.1), so smtpd sees who owns a mailbox and whether they may receive. The
-- policies say the same where row-level security is on.

grant select (user_id, account_id) on mailboxes to minutemail_smtpd;
-- step
grant select (id, state) on users, accounts to minutemail_smtpd;
-- step
create policy smtpd on users for select to minutemail_smtpd using (true);
-- step
create policy smtpd on accounts for select to minutemail_smtpd using (true);
