-- Domains of accounts: proved by the DNS, looked at again now and then, and given up with all that was in them. Keys: made and
-- changed by their owners in the console. Small tables, reference tables on Citus, but for what domain_purge takes away.

-- mx_lost_since: the first look at a verified domain that did not find its MX with us; null while it is.
-- check_at: when it is to be looked at again; null: at once.
alter table domains
	add txt_valid boolean not null default false,
	add mx_valid boolean not null default false,
	add mx_lost_since timestamptz,
	add check_at timestamptz;
-- step
create index domains_check on domains (check_at) where status = 'verified' and account_id is not null;
-- step
-- Domains that are gone and whose mailboxes may not be yet.
create table domain_leftovers (
	domain_id uuid primary key,
	account_id uuid not null,
	deleted_at timestamptz not null
);
-- step
-- Takes away mailboxes of a domain that is gone, with their mails: `most` of them a call, by rising id from the one after
-- `after`. Returns the last one's id; null: no more.
create function domain_purge(of_account uuid, of_domain uuid, after uuid, most int) returns uuid
	language plpgsql security definer set search_path = pg_catalog, public, pg_temp
as $$
declare
	r record;
	last uuid;
begin
	if exists (select from domains where id = of_domain) then
		return null;
	end if;
	for r in
		select bucket, mailbox_id from account_mailboxes
		where account_id = of_account and domain_id = of_domain and mailbox_id > after order by mailbox_id limit most
	loop
		delete from mailboxes where bucket = r.bucket and id = r.mailbox_id and domain_id = of_domain;
		with mail as (
			delete from messages where bucket = r.bucket and mailbox_id = r.mailbox_id returning id, expiry_hour
		)
		delete from message_source s using mail m
		where s.bucket = r.bucket and s.id = m.id and s.expiry_hour = m.expiry_hour;
		delete from account_mailboxes where account_id = of_account and mailbox_id = r.mailbox_id;
		last := r.mailbox_id;
	end loop;
	return last;
end
$$;
-- step
revoke execute on function domain_purge(uuid, uuid, uuid, int) from public;
-- step
grant execute on function domain_purge(uuid, uuid, uuid, int) to minutemail_apid;
-- step
grant insert, update (status, txt_valid, mx_valid, mx_lost_since, check_at), delete on domains to minutemail_apid;
-- step
grant select, insert, delete on domain_leftovers to minutemail_apid;
