package functions_test

// The ids by which Inngest knows the functions: whoever changes one leaves its failed runs without a function.
const (
	syncUser    = "sync-user-from-clerk"
	updateUser  = "update-user-from-clerk"
	deleteUser  = "delete-user-with-clerk"
	markFailed  = "mark-failed-event"
	sendWelcome = "send-welcome-email"
)
