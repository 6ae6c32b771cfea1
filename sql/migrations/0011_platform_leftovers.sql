-- A domain of the platform that is deleted leaves mailboxes of many accounts over, each account's to be taken away by itself.
alter table domain_leftovers drop constraint domain_leftovers_pkey;
-- step
alter table domain_leftovers add primary key (domain_id, account_id);
