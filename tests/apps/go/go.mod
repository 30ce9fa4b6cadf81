module apps

go 1.21
