-- A mailbox is made for somebody who is there, and stays until it is made: a request that was let in before its user was removed could
-- make one after all of theirs had been taken away, which nobody could see or delete, and which took mail for ever. MMGON becomes 401.
create function mailbox_owner_stays(for_account uuid, for_user uuid) returns void
	language plpgsql set search_path = pg_catalog, public, pg_temp
as $$
begin
	perform from users where account_id = for_account and id = for_user for key share;
	if not found then
		raise exception using errcode = 'MMGON', message = 'the user is gone';
	end if;
end
$$;
-- step
revoke all on function mailbox_owner_stays(uuid, uuid) from public;
-- step
grant execute on function mailbox_owner_stays(uuid, uuid) to minutemail_apid;
