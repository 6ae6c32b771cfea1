-- Mail at a domain is for mailboxes of that very domain. One that was given up may leave mailboxes behind for a while, and another account
-- may have proved the name meanwhile: its mail is not for them, and its new mailboxes need not wait until they are taken away.

-- smtpd compares the mailbox's domain with the one it has found.
grant select (domain_id) on mailboxes to minutemail_smtpd;
-- step
grant minutemail_gate to current_user;
-- step
-- What stands at an address and is dead, archived by the same user, or of a domain that is gone, makes room for a new mailbox, with its
-- mails: whosever it was. The caller takes it from that one's list.
create or replace function mailbox_make_room(of_bucket smallint, of_address text, at timestamptz, for_user uuid)
	returns table (dead uuid, dead_account uuid)
	language plpgsql security definer set search_path = pg_catalog, public, pg_temp
as $$
begin
	return query
	with dead as (
		delete from mailboxes b
		where b.bucket = of_bucket and b.address = of_address
			and (b.expires_at <= at and (not b.recoverable or b.user_id = for_user)
				or not exists (select from domains d where d.id = b.domain_id))
		returning b.id, b.account_id
	), mail as (
		delete from messages m using dead d where m.bucket = of_bucket and m.mailbox_id = d.id
		returning m.id, m.expiry_hour
	), source as (
		delete from message_source s using mail m where s.bucket = of_bucket and s.id = m.id and s.expiry_hour = m.expiry_hour
	)
	select d.id, d.account_id from dead d;
end
$$;
-- step
-- For the operator's tool, which makes postmasters.
grant execute on function mailbox_make_room(smallint, text, timestamptz, uuid) to current_user;
-- step
revoke minutemail_gate from current_user;
