-- How many mailboxes an account may have (its plan's limits), judged at the end of the transaction that made one more: under a
-- lock on a row of the account, so that of two at once the second counts what the first made. That lock is the last one a
-- transaction takes, or all the rows it still changes are its own. SQLSTATE MMACT and MMARC become 429 in apid.

create table account_locks (
	account_id uuid primary key
);
-- step
create function mailbox_lock_account(for_account uuid) returns void
	language sql security definer set search_path = pg_catalog, public, pg_temp
as $$
	insert into account_locks values (for_account) on conflict (account_id) do update set account_id = excluded.account_id
$$;
-- step
create function mailbox_limit_active(for_account uuid, at timestamptz, most bigint) returns void
	language plpgsql security definer set search_path = pg_catalog, public, pg_temp
as $$
begin
	perform mailbox_lock_account(for_account);
	if (select count(*) from account_mailboxes where account_id = for_account and (expires_at is null or expires_at > at)) > most then
		raise exception using errcode = 'MMACT', message = 'too many active mailboxes';
	end if;
end
$$;
-- step
-- Only if `mailbox` was archived at this very instant: others need no place. What is archived because its time has passed may
-- exceed the limit, since nobody asks then.
create function mailbox_limit_archived(for_account uuid, at timestamptz, most bigint, mailbox uuid) returns void
	language plpgsql security definer set search_path = pg_catalog, public, pg_temp
as $$
begin
	perform from account_mailboxes
	where account_id = for_account and mailbox_id = mailbox and recoverable and expires_at = at;
	if not found then
		return;
	end if;
	perform mailbox_lock_account(for_account);
	if (select count(*) from account_mailboxes where account_id = for_account and recoverable and expires_at <= at) > most then
		raise exception using errcode = 'MMARC', message = 'too many archived mailboxes';
	end if;
end
$$;
-- step
revoke all on function mailbox_lock_account(uuid), mailbox_limit_active(uuid, timestamptz, bigint),
	mailbox_limit_archived(uuid, timestamptz, bigint, uuid) from public;
-- step
grant execute on function mailbox_limit_active(uuid, timestamptz, bigint),
	mailbox_limit_archived(uuid, timestamptz, bigint, uuid) to minutemail_apid;
