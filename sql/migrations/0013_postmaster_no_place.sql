-- The postmaster@ of each verified domain is there because RFC 5321 4.5.1 wants it, not because anybody made it: it takes none of the plan's
-- places. There is one for each domain, so that they are not looked for.

create or replace function mailbox_limit_active(for_account uuid, at timestamptz, most bigint) returns void
	language plpgsql security definer set search_path = pg_catalog, public, pg_temp
as $$
begin
	perform mailbox_lock_account(for_account);
	if (select count(*) from account_mailboxes where account_id = for_account and (expires_at is null or expires_at > at))
		> most + (select count(*) from domains where account_id = for_account and status = 'verified') then
		raise exception using errcode = 'MMACT', message = 'too many active mailboxes';
	end if;
end
$$;
