"""Access control: who asks (tokens, passports), who may see what (rules, a policy service), signed URLs, audit log.

Nothing here knows a view, or a web framework.
"""
